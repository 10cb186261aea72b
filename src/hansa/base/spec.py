"""What a model must know of a data set to be built, and nothing more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class DataSpec:
    """The form of one example and of what is predicted.

    Attributes:
        kind: ``image`` (float [C, H, W]), ``table`` (float [F]), ``tokens`` (int64 [T]) or
            ``pairs`` (int64 [2], a user and an item).
        shape: shape of one input as the model receives it.
        outputs: numbers that the model gives: one a class, one for two classes told apart by one
            score (``binary``), or one a regression target.
        task: ``classification`` (cross-entropy, accuracy), ``binary`` (classes 0 and 1 from one
            score, cross-entropy after a sigmoid, accuracy at 0.5) or ``regression`` (mean
            squared error, RMSE).
        vocabulary: sizes of the id spaces: (V,) for tokens, (users, items) for pairs.
        scale: the lowest and the highest target that there may be; () where nobody says.
        padding: of tokens, the id that fills up an example at its end; None: all are as long.
        labels: the classes in words, where examples are texts of a language.
        amounts: of a regression whose network learns in standard units, the mean and the spread of
            the training targets; (): it learns them as they are.
    """

    kind: Literal["image", "table", "tokens", "pairs"]
    shape: tuple[int, ...]
    outputs: int
    task: Literal["classification", "binary", "regression"] = "classification"
    vocabulary: tuple[int, ...] = ()
    scale: tuple[float, ...] = ()
    padding: int | None = field(default=None, repr=False)
    labels: tuple[str, ...] = field(default=(), repr=False)
    amounts: tuple[float, ...] = ()

    @property
    def classes(self) -> int:
        """How many classes the targets have; 0 for a regression."""
        return {"classification": self.outputs, "binary": 2, "regression": 0}[self.task]

    @property
    def unit(self) -> float:
        """What a standard unit of the targets is in the person's."""
        return self.amounts[1] if self.amounts else 1.0
