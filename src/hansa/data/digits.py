"""The handwritten digits that come with scikit-learn: small, and always there."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hansa.base.component import register
from hansa.data.columns import split_rows
from hansa.data.raw import Arrays, RawSplits
from hansa.data.source import DataSource


@register("digits")
class Digits(DataSource):
    """1,797 handwritten digits of 8x8 pixels that scikit-learn ships; needs no download.

    UCI Optical Recognition of Handwritten Digits. Pixels are 0..16; a fixed 80/20 split,
    stratified by class.
    """

    def files(self) -> Sequence[Path]:
        # Found without importing scikit-learn, which takes longer than all the rest.
        spec = importlib.util.find_spec("sklearn")
        home = Path(spec.origin).parent if spec and spec.origin else Path()
        packed = home / "datasets" / "data" / "digits.csv.gz"
        return [packed] if packed.is_file() else []

    def read(self) -> RawSplits:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images = bunch.images.astype(np.uint8)[..., None]
        targets = bunch.target.astype(np.int64)
        train, test = (
            Arrays(images[rows], targets[rows]) for rows in split_rows(0.2, "digits", targets)
        )
        names = tuple(str(digit) for digit in range(10))
        return RawSplits(train, test, kind="image", outputs=10, peak=16.0, class_names=names)
