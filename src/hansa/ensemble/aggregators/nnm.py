"""Nearest-neighbour mixing: rows are made alike before another aggregator sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.ensemble.aggregators.aggregator import Aggregator
from hansa.ensemble.aggregators.coordinate_wise import TrimmedMean
from hansa.ensemble.aggregators.pairwise import squared_distances
from hansa.ensemble.aggregators.whole_rows import WholeRows

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@register("nnm", paper="Allouah et al.", year=2023, url="https://arxiv.org/abs/2302.01772")
class NearestNeighborMixing(WholeRows):
    """Each row becomes the mean of its n - f nearest, itself among them; ``then`` aggregates those.

    All rows weigh alike in the mixing; ``then`` gets the weights as they are. A neighbour that is
    as near as another is taken or left by what the rows are, not by their order.
    """

    f: int = Field(1, ge=0, description="rows that may be anything")
    then: Aggregator = Field(TrimmedMean(), description="what aggregates the mixed rows")

    @property
    def least(self) -> int:
        """More than half must be good, and as many as ``then`` needs."""
        return max(2 * self.f + 1, self.then.least)

    @property
    def scores_only(self) -> bool:
        """As the inner one."""
        return self.then.scores_only

    def kappa(self, n: int, f: int) -> float | None:
        """8f / (n - f) (kappa + 1) of the inner kappa, for its own f (Allouah et al., lemma 5)."""
        inner = self.then.kappa(n, f)
        return None if inner is None or f != self.f else 8 * f / (n - f) * (inner + 1)

    def mixed(self, rows: Tensor) -> Tensor:
        """Rows [m, n, D] as the means of their nearest, [m, n, D].

        A row that is not finite makes those that it is mixed into so, and no others.
        """
        near = squared_distances(rows).argsort(dim=2, stable=True)[:, :, : rows.shape[1] - self.f]
        share = torch.zeros(*rows.shape[:2], rows.shape[1], dtype=rows.dtype, device=rows.device)
        share.scatter_(2, near, 1 / near.shape[2])
        bad = ~rows.detach().isfinite().all(2)
        if not bad.any():
            return share @ rows
        mixed = share @ rows.masked_fill(bad.unsqueeze(2), 0)
        spoilt = (share * bad.unsqueeze(1)).sum(2) > 0
        return mixed.masked_fill(spoilt.unsqueeze(2), float("nan"))

    def batch(self, rows: Tensor, weights: Tensor) -> Tensor:
        return then_each(self.then, self.mixed(rows), weights)


def then_each(then: Aggregator, rows: Tensor, weights: Tensor) -> Tensor:
    """What an aggregator makes of rows [m, n, D] whose weights float64 [m, n] may differ by set."""
    if (weights == weights[:1]).all():
        return then.many(rows, _array(weights[0]))
    each = [then.many(one[None], _array(w))[0] for one, w in zip(rows, weights, strict=True)]
    return torch.stack(each)


def _array(weights: Tensor) -> np.ndarray:
    return weights.cpu().numpy()
