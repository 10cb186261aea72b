"""Handwritten digits that come with the package: small, and always there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hansa.base.component import register
from hansa.data.columns import split_rows
from hansa.data.raw import Arrays, RawSplits
from hansa.data.source import DataSource

_PACKED = Path(__file__).with_name("digits.npz")


@register("digits")
class Digits(DataSource):
    """1,797 handwritten digits of 8x8 pixels that come with hansa; needs no download.

    The test set of UCI's Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998,
    CC BY 4.0), as scikit-learn has it. Pixels are 0..16; a fixed 80/20 split, stratified by class.
    """

    def files(self) -> Sequence[Path]:
        return [_PACKED]

    def read(self) -> RawSplits:
        with np.load(_PACKED, allow_pickle=False) as packed:
            images, targets = packed["images"][..., None], packed["targets"].astype(np.int64)
        train, test = (
            Arrays(images[rows], targets[rows]) for rows in split_rows(0.2, "digits", targets)
        )
        names = tuple(str(digit) for digit in range(10))
        return RawSplits(train, test, kind="image", outputs=10, peak=16.0, class_names=names)
