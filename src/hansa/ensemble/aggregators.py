"""Aggregators: one row of many, of a model's numbers or of scores, some rows at a time.

Servers, gossip and ensembles share this seam: ``start`` a state, ``add`` rows to it as they come,
``end`` with one row. A mean runs: its memory does not grow with the number of rows. A robust
aggregator has to see all rows at once, so it keeps them (:class:`Buffered`): n D numbers until the
end. The median and the trimmed mean look at each number alone (Yin et al., 2018) and work on some
columns at a time, so that nothing of that size comes on top.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import Component, register
from hansa.base.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK = 1 << 21
"""Numbers that are sorted at a time."""
_ROUNDING = 1e-9


class Aggregator(Component, kind="aggregator"):
    """Makes one row of many.

    The laws, which the tests hold every aggregator to: neither the order of the rows nor how they
    are split over calls of :meth:`add` matters (but for rounding, where rows are summed), weights
    matter up to a factor, and identical rows give that row.
    """

    by_number: ClassVar[bool] = False
    """Whether each number has its own result, so that rows may be laid end to end."""

    @property
    def least(self) -> int:
        """How many rows it needs."""
        return 1

    @abstractmethod
    def start(self, like: Tensor) -> Any:
        """A state without rows.

        Args:
            like: [D], a row of the same form, where the receiver itself stands: its own model
                among peers, zeros at a server, which gets differences from its model.
        """

    @abstractmethod
    def add(self, state: Any, rows: Tensor, weights: np.ndarray) -> None:
        """Take some rows [k, D] with weights float64 [k], none below 0, into the state.

        The rows may be changed by others once this has returned.
        """

    @abstractmethod
    def end(self, state: Any) -> Tensor:
        """The row [D] of all that were added, at least :attr:`least`."""

    def add_scaled(self, state: Any, rows: Tensor, weights: np.ndarray, scales: np.ndarray) -> None:
        """:meth:`add` rows that are first multiplied with scales float64 [k], each with its own."""
        if (scales != 1).any():
            rows = rows * torch.from_numpy(scales).to(rows).unsqueeze(1)
        self.add(state, rows, weights)

    def of(self, rows: Tensor, weights: np.ndarray) -> Tensor:
        """The row [D] of rows [n, D] that are all there."""
        state = self.start(torch.zeros_like(rows[0]))
        self.add(state, rows, weights)
        return self.end(state)


@dataclass
class Total:
    """A sum of weighted rows [D] and the sum of their weights."""

    row: Tensor
    weight: float = 0.0


@register("mean")
class Mean(Aggregator):
    """The weighted mean: one bad row moves it as far as it likes."""

    by_number: ClassVar[bool] = True

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


@dataclass
class Kept:
    """Rows [n, D] in pieces, and their weights."""

    rows: list[Tensor] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)


class Buffered(Aggregator):
    """An aggregator that needs all rows at once: it keeps them, n D numbers, at the end twice."""

    def start(self, like: Tensor) -> Kept:
        return Kept()

    def add(self, state: Kept, rows: Tensor, weights: np.ndarray) -> None:
        state.rows.append(rows.detach().clone())
        state.weights.append(np.array(weights, dtype=np.float64))

    def end(self, state: Kept) -> Tensor:
        return self.combine(torch.cat(state.rows), np.concatenate(state.weights))

    @abstractmethod
    def combine(self, rows: Tensor, weights: np.ndarray) -> Tensor:
        """The row [D] of rows [n, D] with weights float64 [n]."""


class CoordinateWise(Buffered):
    """An aggregator of each number by itself, some columns at a time: n D numbers, and 64 MiB."""

    by_number: ClassVar[bool] = True

    def end(self, state: Kept) -> Tensor:
        weights, first = np.concatenate(state.weights), state.rows[0]
        if len(weights) < self.least:
            raise ValueError(f"{self.name} needs {self.least} rows, not {len(weights)}")
        row = first.new_empty(first.shape[1])
        width = max(1, _CHUNK // len(weights))
        for first_column in range(0, len(row), width):
            span = slice(first_column, first_column + width)
            pieces = torch.cat([piece[:, span] for piece in state.rows])
            row[span] = self.combine(pieces, weights)
        return row

    def combine(self, rows: Tensor, weights: np.ndarray) -> Tensor:
        mass = torch.from_numpy(weights).to(rows.device)
        if (weights == weights[0]).all():  # whose a number is does not matter
            values = _ascending(rows.T.contiguous())
            return self.middle(values, mass.expand(len(values), -1)).to(rows.dtype)
        # Among equal numbers the lighter come first, so that the order of the rows is forgotten.
        order = torch.from_numpy(np.argsort(weights, kind="stable")).to(rows.device)
        values, which = rows[order].T.contiguous().sort(dim=1, stable=True)  # NaN comes last
        return self.middle(values, mass[order][which]).to(rows.dtype)

    @abstractmethod
    def middle(self, values: Tensor, weights: Tensor) -> Tensor:
        """One number of each n: values [C, n], ascending, with weights float64 [C, n] -> [C]."""


def _ascending(columns: Tensor) -> Tensor:
    """Each row of [C, n] in order, NaN last. NumPy takes a tenth of torch's time for it."""
    if columns.device.type != "cpu":
        return columns.sort(dim=1).values
    return torch.from_numpy(np.sort(columns.numpy(), axis=1))


@register("median", paper="Yin et al.", year=2018, url="https://arxiv.org/abs/1803.01498")
class Median(CoordinateWise):
    """The median of each number (Yin et al., 2018): right while the bad weigh less than half.

    Between two middle ones, where half of the weight lies on either side, it is their mean.
    """

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

    def middle(self, values: Tensor, weights: Tensor) -> Tensor:
        inner = slice(self.f, values.shape[1] - self.f)
        kept = weights[:, inner]
        return (values[:, inner] * kept).sum(1) / kept.sum(1)
