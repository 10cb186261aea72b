"""The seam: ``start`` a state, ``add`` rows to it as they come, ``end`` with one row.

A mean runs: its memory does not grow with the number of rows. A robust aggregator has to see all
rows at once, so it keeps them (:class:`Buffered`): n D numbers until the end. Scores of many
examples are aggregated in one call, :meth:`Aggregator.many`.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import AfterValidator

from hansa.base.component import Component
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


class Aggregator(Component, kind="aggregator"):
    """Makes one row of many.

    The laws, which the tests hold every aggregator to: neither the order of the rows nor how they
    are split over calls of :meth:`add` matters (but for rounding, where rows are summed), weights
    matter up to a factor, identical rows give that row (but for ``centered_clipping``, which goes
    only so far from where the receiver stands).
    """

    by_number: ClassVar[bool] = False
    """Whether each number has its own result, so that rows may be laid end to end."""

    @property
    def least(self) -> int:
        """How many rows it needs."""
        return 1

    @property
    def scores_only(self) -> bool:
        """Whether rows must be scores, one number a class: a model's numbers cast no votes."""
        return False

    def ranks(self, n: int) -> tuple[int, int] | None:
        """(low, high) if, of n rows of equal weight, each number of the result is the mean of the
        low-th to the (high - 1)-th smallest, from 0; None for all others."""
        return None

    def kappa(self, n: int, f: int) -> float | None:
        """The kappa for which it is (f, kappa)-robust among n rows, where one is known.

        Then |A(x) - mean(x_H)|² <= kappa · mean over H of |x_i - mean(x_H)|² for every set H of
        n - f rows, whatever the others are (Allouah et al., AISTATS 2023).
        """
        return None

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

    def many(self, rows: Tensor, weights: np.ndarray | None = None) -> Tensor:
        """Each of m sets of n rows for itself: [m, n, D] -> [m, D].

        The built-in ones do all at once, and gradients pass where the aggregator has them. This
        one, for one's own, calls :meth:`of`.

        Args:
            weights: float64 [n], the same in every set; None: all alike.
        """
        m, n, size = rows.shape
        weights = np.full(n, 1 / n) if weights is None else weights
        if not m:
            return rows.new_zeros(0, size)
        if self.by_number:
            return self.of(rows.transpose(0, 1).reshape(n, m * size), weights).view(m, size)
        return torch.stack([self.of(each, weights) for each in rows])

    def check_rows(self, n: int) -> None:
        """Refuse so few rows.

        Raises:
            ValueError: there are fewer than :attr:`least`.
        """
        if n < self.least:
            raise ValueError(f"{self.name} needs {self.least} rows, not {n}")


def _of_models(aggregator: Aggregator) -> Aggregator:
    if aggregator.scores_only:
        problem = "counts votes of scores, and a model's numbers cast none"
        fix = "median, trimmed_mean or another; votes are for ensembles and for inference"
        raise ConfigError("aggregator", aggregator.name, problem, fix)
    return aggregator


ModelAggregator = Annotated[Aggregator, AfterValidator(_of_models)]
"""The field of an algorithm that aggregates rows of models."""


@dataclass
class Kept:
    """Rows [n, D] in pieces, their weights, and where the receiver stands [D]."""

    like: Tensor | None = None
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


def alike(weights: np.ndarray | None) -> bool:
    """Whether all weights are the same."""
    return weights is None or bool((weights == weights[0]).all())
