"""Krum and multi-Krum: the row, or the rows, whose nearest are nearest (Blanchard et al., 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.ensemble.aggregators.pairwise import pieces, short_sets, squared_distances
from hansa.ensemble.aggregators.sorting import mean_of_lanes
from hansa.ensemble.aggregators.whole_rows import WholeRows, mean_of_chosen, settled

if TYPE_CHECKING:
    from torch import Tensor


class _Nearest(WholeRows):
    f: int = Field(1, ge=0, description="rows that may be anything")

    @property
    def least(self) -> int:
        """More than half must be good."""
        return 2 * self.f + 1

    def scores(self, rows: Tensor) -> Tensor:
        """The mean squared distance to the n - f nearest, itself among them, float64 [m, n].

        A row's own does not depend on where it stands.
        """
        m, n, _ = rows.shape
        kept = n - self.f
        if not short_sets(rows):
            near = squared_distances(rows).sort(dim=2).values[:, :, :kept]
            return near.double().sum(2) / kept
        scores = np.empty((m, n))
        for span, squares in pieces(rows.detach().numpy()):
            lanes = squares.reshape(n, -1)  # a pair's distance is there twice
            scores[span] = mean_of_lanes(lanes, 0, kept).reshape(n, -1).T
        return torch.from_numpy(scores)


@register("krum", paper="Blanchard et al.", year=2017, url="https://arxiv.org/abs/1703.02757")
class Krum(_Nearest):
    """The row with the smallest sum of squared distances to its n - f nearest, itself among them.

    As in Allouah et al. (2023); Blanchard et al. leave out one more, and so need 2f + 3 rows. All
    rows weigh alike. Of equal sums it is one that does not depend on the rows' order.
    """

    def kappa(self, n: int, f: int) -> float | None:
        """6 (1 + f / (n - 2f)) for its own f (Allouah et al., AISTATS 2023)."""
        return 6 * (1 + f / (n - 2 * f)) if f == self.f and n > 2 * f else None

    def many(self, rows: Tensor, weights: np.ndarray | None = None) -> Tensor:
        self.check_rows(rows.shape[1])
        scores = self.scores(rows)
        least, which = scores.min(1)
        tied = torch.nonzero((scores == least.unsqueeze(1)).sum(1) > 1)[:, 0]
        if len(tied):
            order = torch.from_numpy(settled(rows[tied])).to(rows.device)
            first = scores[tied].gather(1, order).argmin(1, keepdim=True)
            which[tied] = order.gather(1, first)[:, 0]
        return rows.gather(1, which.view(-1, 1, 1).expand(-1, 1, rows.shape[2]))[:, 0]

    def batch(self, rows: Tensor, weights: Tensor) -> Tensor:
        return self.many(rows)


@register("multi_krum", paper="Blanchard et al.", year=2017, url="https://arxiv.org/abs/1703.02757")
class MultiKrum(_Nearest):
    """The weighted mean of the ``keep`` rows that Krum likes best; whom it likes is not weighted.

    No kappa is given: the bounds of Bareilles et al. (2026) are for another notion of it.
    """

    keep: int | None = Field(None, ge=1, description="rows that are averaged; n - f if not given")

    @property
    def least(self) -> int:
        """More than half must be good, and ``keep`` of them there."""
        return max(2 * self.f + 1, (self.keep or 1) + self.f)

    def batch(self, rows: Tensor, weights: Tensor) -> Tensor:
        keep = self.keep or rows.shape[1] - self.f
        return mean_of_chosen(
            rows, weights, self.scores(rows).argsort(dim=1, stable=True)[:, :keep]
        )
