"""What a reader hands over: NumPy arrays as stored, checked once before they are used."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hansa.base.errors import ConfigError, DataError
from hansa.data.features import Feature


@dataclass(frozen=True)
class Arrays:
    """One split: inputs [N, ...], targets [N], groups [N] or None (forms as in Split)."""

    inputs: np.ndarray
    targets: np.ndarray
    groups: np.ndarray | None = None


@dataclass(frozen=True)
class RawSplits:
    """The two splits of a source and their meaning.

    Attributes:
        kind: as in DataSpec. Images are [N, H, W, C].
        outputs: number of classes; 1 for a regression (float32 targets) or a binary task.
        peak: the value of a full-intensity pixel; None where the values have to tell it (see
            :mod:`hansa.data.pixels`).
        floor: the value of a black pixel.
        vocabulary: sizes of the id spaces of tokens or pairs.
        gaps: nan in a table is a missing value, to be filled from the training examples.
        features: of a table, how each column was read (see
            :func:`hansa.data.features.matrix`); empty where they have no names.
        item_names: of pairs, what the source calls each item.
        scale: of pairs, the lowest and the highest target that there may be.
        notes: what a person should know of how the data were read.
        binary: the model tells classes 0 and 1 apart by one score.
        padding: as in DataSpec.
    """

    train: Arrays
    test: Arrays
    kind: Literal["image", "table", "tokens", "pairs"]
    outputs: int
    peak: float | None = None
    floor: float = 0.0
    vocabulary: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    group_names: tuple[str, ...] = ()
    item_names: tuple[str, ...] = ()
    scale: tuple[float, ...] = ()
    binary: bool = False
    gaps: bool = False
    features: tuple[Feature, ...] = ()
    notes: tuple[str, ...] = ()
    padding: int | None = None

    @property
    def regression(self) -> bool:
        return self.train.targets.dtype.kind == "f"

    @property
    def task(self) -> Literal["classification", "binary", "regression"]:
        """As in DataSpec."""
        if self.regression:
            return "regression"
        return "binary" if self.binary else "classification"


_RANK = {"image": 4, "table": 2, "tokens": 2, "pairs": 2}


def check(raw: RawSplits, name: str) -> None:
    """Refuse arrays that no model could be trained on.

    Raises:
        DataError: a split is empty, its arrays disagree, a class id or an id is out of range,
            or a value is not finite. Names the data set and the split.
    """
    for label, part in (("training", raw.train), ("test", raw.test)):
        where = f"{name}: the {label} set"
        rows = len(part.inputs)
        if rows == 0:
            raise DataError(f"{where} is empty")
        if len(part.targets) != rows or (part.groups is not None and len(part.groups) != rows):
            raise DataError(f"{where} has {rows} inputs but {len(part.targets)} targets")
        if part.inputs.ndim != _RANK[raw.kind]:
            raise DataError(
                f"{where} has inputs of shape {part.inputs.shape}; {raw.kind} data need "
                f"{_RANK[raw.kind]} dimensions"
            )
        if part.inputs.shape[1:] != raw.train.inputs.shape[1:]:
            raise DataError(
                f"{where} has examples of shape {part.inputs.shape[1:]}, the training set of "
                f"shape {raw.train.inputs.shape[1:]}"
            )
        if part.inputs.dtype.kind == "f" and not raw.gaps and not np.isfinite(part.inputs).all():
            bad = int((~np.isfinite(part.inputs)).sum())
            raise DataError(f"{where} has {bad} inputs that are not finite; fill or drop them")
        if raw.regression:
            if not np.isfinite(part.targets).all():
                raise DataError(f"{where} has targets that are not finite; drop those rows")
        else:
            _within(part.targets, 2 if raw.binary else raw.outputs, f"{where}: class")
        for size, column in zip(raw.vocabulary, _id_columns(raw, part), strict=True):
            _within(column, size, f"{where}: id")
    if raw.task == "classification" and raw.outputs < 2:
        raise DataError(f"{name}: there is one class only; classification needs at least two")


def pool(raw: RawSplits, factor: int) -> RawSplits:
    """Images made smaller by the mean over ``factor`` x ``factor`` blocks, stored as float32.

    Raises:
        ConfigError: the data are no images or the factor does not divide their sides.
    """
    if factor == 1:
        return raw
    if raw.kind != "image":
        raise ConfigError("downscale", factor, f"works on images, not on {raw.kind}", "write 1")
    height, width = raw.train.inputs.shape[1:3]
    if height % factor or width % factor:
        raise ConfigError(
            "downscale", factor, f"does not divide images of {height}x{width}", "use a divisor"
        )
    return replace(raw, train=_pooled(raw.train, factor), test=_pooled(raw.test, factor))


def _pooled(part: Arrays, factor: int, chunk: int = 2048) -> Arrays:
    rows, height, width, channels = part.inputs.shape
    small = np.empty((rows, height // factor, width // factor, channels), np.float32)
    for start in range(0, rows, chunk):  # chunks keep the float copy small
        block = part.inputs[start : start + chunk].astype(np.float32)
        shape = (len(block), height // factor, factor, width // factor, factor, channels)
        small[start : start + chunk] = block.reshape(shape).mean(axis=(2, 4))
    return replace(part, inputs=small)


def _id_columns(raw: RawSplits, part: Arrays) -> list[np.ndarray]:
    if raw.kind == "tokens":
        return [part.inputs]
    return [part.inputs[:, 0], part.inputs[:, 1]] if raw.kind == "pairs" else []


def _within(values: np.ndarray, size: int, what: str) -> None:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= size:
        raise DataError(f"{what} {low if low < 0 else high} is outside 0..{size - 1}")
