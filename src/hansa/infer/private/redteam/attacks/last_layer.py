"""Differences of logits are the last layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.infer.private.redteam.attacks.extraction import (
    BUDGET,
    SHARES,
    SHUFFLE,
    UNPROTECTED,
    Expected,
)
from hansa.infer.private.redteam.attacks.unit_vectors import UnitVectors
from hansa.infer.private.redteam.scoring import right_in_order

_OPEN: tuple[Expected, str] = (
    "all", "logits are the answer: nobody shuffles them, and d + 1 of them are the last layer"
)  # fmt: skip


@register("last_layer")
class LastLayer(UnitVectors):
    """Logits of a zero and of unit vectors, each weight in its place.

    A client adds what it likes to its share, too: in mode shares the last layer's numbers must not
    be shown, and only the class is. Classes leak as well, at many more queries (Carlini et al.,
    2024, arXiv 2410.05750); the red team does not try that.
    """

    logits: bool = Field(
        False, description="reveal logits in mode shares, which is not the default"
    )

    layers: ClassVar[tuple[str, ...]] = ("last",)
    takes: ClassVar[tuple[str, ...]] = ("last",)
    expected: ClassVar[dict[str, tuple[Expected, str]]] = {
        UNPROTECTED: _OPEN,
        SHUFFLE: _OPEN,
        BUDGET: ("part", "as many columns as the budget lets pass"),
        SHARES: ("chance", "the client gets the class, and decrypts uniform numbers"),
    }

    @property
    def modes(self) -> tuple[str, ...]:
        return (SHARES,) if self.logits else super().modes

    @property
    def logits_shown(self) -> bool:
        return self.logits

    def label(self) -> str:
        return type(self).name

    def expects(self, mode: str) -> tuple[Expected, str]:
        if mode == SHARES and self.logits:
            return "all", "differences of logits are the layer, whatever shares hide before"
        return self.expected[mode]

    @staticmethod
    def score() -> Callable[[np.ndarray, np.ndarray], int]:
        """Weights in their places."""
        return right_in_order
