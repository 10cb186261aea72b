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
    """A sum of weighted rows [D] and of their weights.

    Attributes:
        holders: float64 [D], the weights of those who hold each number; None while all hold all.
    """

    row: Tensor
    weight: float = 0.0
    holders: Tensor | None = None

    def hold(self, weight: float, held: Tensor | None) -> None:
        """Count the weight of rows that hold the numbers at ``held``; None: all."""
        if self.holders is None and held is not None:
            self.holders = torch.full_like(self.row, self.weight, dtype=torch.float64)
        if self.holders is not None:
            self.holders[... if held is None else held] += weight
        self.weight += weight


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
        self.add_held(state, rows, weights, scales, None)

    def add_held(
        self,
        state: Total,
        rows: Tensor,
        weights: np.ndarray,
        scales: np.ndarray,
        held: Tensor | None,
    ) -> None:
        """:meth:`add_scaled` rows whose senders hold the numbers at ``held`` alone.

        The mean of a number is over those who hold it; of one that nobody holds it is 0.

        Args:
            held: int64 positions in a row, which is 0 elsewhere; None: all.
        """
        for row, factor in zip(rows, weights * scales, strict=True):
            state.row.add_(row, alpha=float(factor))
        state.hold(float(weights.sum()), held)

    def end(self, state: Total) -> Tensor:
        if not state.weight:
            return state.row
        state.row.div_(state.weight)
        if state.holders is not None:
            known = state.holders > 0
            factor = torch.where(known, state.weight / state.holders, 0)
            state.row.mul_(factor.to(state.row))
        return state.row

    def many(self, rows: Tensor, weights: np.ndarray | None = None) -> Tensor:
        weights = np.ones(rows.shape[1]) if weights is None else weights
        total = rows[:, 0] * float(weights[0])
        for row, weight in zip(rows.unbind(1)[1:], weights[1:], strict=True):
            total = total.add(row, alpha=float(weight))
        return total / float(weights.sum())
