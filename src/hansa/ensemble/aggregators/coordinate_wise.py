"""Aggregators that look at each number alone: the median and the trimmed mean (Yin et al., 2018).

They work on some columns at a time, so that nothing as large as all rows comes on top. Of rows of
equal weight, columns are sorted by a network of exchanges (``sorting.py``), many at once.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.ensemble.aggregators.aggregator import Buffered, Kept, alike
from hansa.ensemble.aggregators.sorting import mean_of_ranks

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK = 1 << 21
"""Numbers that are sorted at a time."""
_ROUNDING = 1e-9


class CoordinateWise(Buffered):
    """An aggregator of each number by itself, some columns at a time: n D numbers, and 64 MiB."""

    by_number: ClassVar[bool] = True

    def end(self, state: Kept) -> Tensor:
        weights, first = np.concatenate(state.weights), state.rows[0]
        self.check_rows(len(weights))
        row = first.new_empty(first.shape[1])
        width = max(1, _CHUNK // len(weights))
        for first_column in range(0, len(row), width):
            span = slice(first_column, first_column + width)
            pieces = torch.cat([piece[:, span] for piece in state.rows])
            row[span] = self.combine(pieces, weights)
        return row

    def combine(self, rows: Tensor, weights: np.ndarray) -> Tensor:
        if alike(weights):  # whose a number is does not matter
            return self._equal(rows[None])[0]
        mass = torch.from_numpy(weights).to(rows.device)
        # Among equal numbers the lighter come first, so that the order of the rows is forgotten.
        order = torch.from_numpy(np.argsort(weights, kind="stable")).to(rows.device)
        values, which = rows[order].T.contiguous().sort(dim=1, stable=True)  # NaN comes last
        return self.middle(values, mass[order][which]).to(rows.dtype)

    def many(self, rows: Tensor, weights: np.ndarray | None = None) -> Tensor:
        m, n, size = rows.shape
        self.check_rows(n)
        if weights is None or alike(weights):
            return self._equal(rows)
        return self.combine(rows.transpose(0, 1).reshape(n, m * size), weights).view(m, size)

    def _equal(self, rows: Tensor) -> Tensor:
        """Of rows [m, n, D] of equal weight, each set for itself -> [m, D]."""
        m, n, size = rows.shape
        ranks = self.ranks(n)
        plain = rows.device.type == "cpu" and not (rows.requires_grad and torch.is_grad_enabled())
        if ranks is not None and plain:
            return torch.from_numpy(mean_of_ranks(rows.detach().numpy(), *ranks))
        values = rows.transpose(1, 2).reshape(m * size, n).sort(dim=1).values
        mass = torch.ones(n, dtype=torch.float64, device=rows.device).expand(m * size, n)
        return self.middle(values, mass).to(rows.dtype).view(m, size)

    @abstractmethod
    def middle(self, values: Tensor, weights: Tensor) -> Tensor:
        """One number of each n: values [C, n], ascending, with weights float64 [C, n] -> [C]."""


@register("median", paper="Yin et al.", year=2018, url="https://arxiv.org/abs/1803.01498")
class Median(CoordinateWise):
    """The median of each number (Yin et al., 2018): right while the bad weigh less than half.

    Between two middle ones, where half of the weight lies on either side, it is their mean.
    """

    def ranks(self, n: int) -> tuple[int, int]:
        """The one or two in the middle."""
        return (n - 1) // 2, n // 2 + 1

    def kappa(self, n: int, f: int) -> float | None:
        """4 (1 + f / (n - 2f))² (Allouah et al., AISTATS 2023)."""
        return 4 * (1 + f / (n - 2 * f)) ** 2 if n > 2 * f else None

    def middle(self, values: Tensor, weights: Tensor) -> Tensor:
        below = weights.cumsum(1)
        half, total = below[:, -1:] / 2, below[:, -1:]
        low = (below < half - _ROUNDING * total).sum(1, keepdim=True)
        high = (below <= half + _ROUNDING * total).sum(1, keepdim=True)
        high = high.clamp(max=values.shape[1] - 1)
        low, high = values.gather(1, low)[:, 0], values.gather(1, high)[:, 0]
        return torch.where(low == high, low, low / 2 + high / 2)


@register("trimmed_mean", paper="Yin et al.", year=2018, url="https://arxiv.org/abs/1803.01498")
class TrimmedMean(CoordinateWise):
    """The mean of each number without its ``f`` largest and ``f`` smallest (Yin et al., 2018)."""

    f: int = Field(1, ge=0, description="rows that are left out at either end, number by number")

    @property
    def least(self) -> int:
        """A row must be left."""
        return 2 * self.f + 1

    def ranks(self, n: int) -> tuple[int, int]:
        """All but f at either end."""
        return self.f, n - self.f

    def kappa(self, n: int, f: int) -> float | None:
        """6f / (n - 2f) (1 + f / (n - 2f)) where as many are trimmed as are bad.

        Allouah et al., AISTATS 2023.
        """
        if f != self.f or n <= 2 * f:
            return None
        return 6 * f / (n - 2 * f) * (1 + f / (n - 2 * f))

    def middle(self, values: Tensor, weights: Tensor) -> Tensor:
        inner = slice(self.f, values.shape[1] - self.f)
        kept = weights[:, inner]
        return (values[:, inner] * kept).sum(1) / kept.sum(1)
