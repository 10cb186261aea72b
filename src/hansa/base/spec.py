"""What a model must know of a data set to be built, and nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DataSpec:
    """The form of one example and of what is predicted.

    Attributes:
        kind: ``image`` (float [C, H, W]), ``table`` (float [F]), ``tokens`` (int64 [T]) or
            ``pairs`` (int64 [2], a user and an item).
        shape: shape of one input as the model receives it.
        outputs: number of classes (or of regression targets).
        task: ``classification`` (cross-entropy, accuracy) or ``regression`` (mean squared
            error, RMSE).
        vocabulary: sizes of the id spaces: (V,) for tokens, (users, items) for pairs.
    """

    kind: Literal["image", "table", "tokens", "pairs"]
    shape: tuple[int, ...]
    outputs: int
    task: Literal["classification", "regression"] = "classification"
    vocabulary: tuple[int, ...] = ()
