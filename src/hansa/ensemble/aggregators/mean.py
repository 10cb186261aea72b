"""The weighted mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.ensemble.aggregators.aggregator import Aggregator

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Total:
    """A sum of weighted rows [D] and the sum of their weights."""

    row: Tensor
    weight: float = 0.0


@register("mean")
class Mean(Aggregator):
    """The weighted mean: one bad row moves it as far as it likes."""

    by_number: ClassVar[bool] = True

    def ranks(self, n: int) -> tuple[int, int]:
        """All."""
        return 0, n

    def kappa(self, n: int, f: int) -> float | None:
        """0 with nobody bad, else none."""
        return None if f else 0.0

    def start(self, like: Tensor) -> Total:
        return Total(torch.zeros_like(like))

    def add(self, state: Total, rows: Tensor, weights: np.ndarray) -> None:
        self.add_scaled(state, rows, weights, np.ones(len(weights)))

    def add_scaled(
        self, state: Total, rows: Tensor, weights: np.ndarray, scales: np.ndarray
    ) -> None:
        for row, factor in zip(rows, weights * scales, strict=True):
            state.row.add_(row, alpha=float(factor))
        state.weight += float(weights.sum())

    def end(self, state: Total) -> Tensor:
        return state.row.div_(state.weight) if state.weight else state.row

    def many(self, rows: Tensor, weights: np.ndarray | None = None) -> Tensor:
        weights = np.ones(rows.shape[1]) if weights is None else weights
        total = rows[:, 0] * float(weights[0])
        for row, weight in zip(rows.unbind(1)[1:], weights[1:], strict=True):
            total = total.add(row, alpha=float(weight))
        return total / float(weights.sum())
