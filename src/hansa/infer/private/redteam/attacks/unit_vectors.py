"""A zero and each unit vector show the columns of a matrix, shuffled or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from hansa.base.component import register
from hansa.infer.private.redteam.attacks.extraction import (
    BUDGET,
    SHARES,
    SHUFFLE,
    UNPROTECTED,
    Expected,
    ExtractionAttack,
    Guess,
)
from hansa.infer.private.redteam.oracle import Oracle, Refused
from hansa.infer.private.redteam.scoring import right_columns

_SORTED: tuple[Expected, str] = (
    "all", "d + 1 chosen queries give the multiset of every column, whatever the shuffle"
)  # fmt: skip


@register("unit_vectors", paper="Kim and Lee", year=2026, url="https://arxiv.org/abs/2609.12911")
class UnitVectors(ExtractionAttack):
    """Zero and d unit vectors, each column of the answers sorted ("Shuffling is not enough").

    What counts is each column's multiset, which is all that a fresh shuffle a query would leave.
    In hansa a shuffle lasts a session: the columns' common order comes with them.
    """

    layers: ClassVar[tuple[str, ...]] = ("matrix",)
    takes: ClassVar[tuple[str, ...]] = ("matrix",)
    expected: ClassVar[dict[str, tuple[Expected, str]]] = {
        UNPROTECTED: _SORTED,
        SHUFFLE: _SORTED,
        BUDGET: ("part", "as many columns as the budget lets pass"),
        SHARES: ("chance", "the client decrypts uniform numbers"),
    }

    @staticmethod
    def score() -> Callable[[np.ndarray, np.ndarray], int]:
        """Columns whose multiset is exact."""
        return lambda guess, truth: right_columns(
            guess.reshape(len(guess), -1), truth.reshape(len(truth), -1)
        )

    def guess(self, oracle: Oracle) -> Guess:
        """The columns that were told."""
        shape, note = oracle.term.weight.shape, ""
        columns = np.zeros((shape[0], int(np.prod(shape[1:]))), np.int64)
        try:
            zero = oracle.ask(np.zeros(oracle.shape, np.int64)).numbers
            for k in range(columns.shape[1]):
                unit = np.zeros(oracle.shape, np.int64)
                unit.flat[k] = 1
                columns[:, k] = (oracle.ask(unit).numbers - zero)[:, 0, 0]
        except Refused as why:
            note = str(why)
        return Guess(columns.reshape(shape), note)
