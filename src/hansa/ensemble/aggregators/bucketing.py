"""Bucketing: means of a few rows each, before another aggregator sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import functional
from hansa.ensemble.aggregators.aggregator import Aggregator
from hansa.ensemble.aggregators.coordinate_wise import Median
from hansa.ensemble.aggregators.nnm import then_each
from hansa.ensemble.aggregators.whole_rows import WholeRows

if TYPE_CHECKING:
    from torch import Tensor


@register(
    "bucketing", paper="Karimireddy et al.", year=2022, url="https://arxiv.org/abs/2006.09365"
)
class Bucketing(WholeRows):
    """Rows fall into buckets of ``size``, whose weighted means ``then`` aggregates.

    Who shares a bucket follows from a hash of the rows, so that neither their order nor a seed
    matters. The published rule draws anew each time, unseen by attackers; whoever knows all rows
    can foretell ours, and the least change of a row deals them anew. Either way f bad rows spoil f
    buckets at most: ``then`` must withstand f of n / size. A bucket weighs what its rows weigh, the
    last may have fewer.
    """

    size: int = Field(2, ge=1, description="rows in a bucket")
    then: Aggregator = Field(Median(), description="what aggregates the buckets' means")

    @property
    def least(self) -> int:
        """As many buckets as ``then`` needs."""
        return self.size * (self.then.least - 1) + 1

    @property
    def scores_only(self) -> bool:
        """As the inner one."""
        return self.then.scores_only

    def batch(self, rows: Tensor, weights: Tensor) -> Tensor:
        m, n, size = rows.shape
        lacking = -n % self.size
        mass = functional.pad(weights, (0, lacking)).view(m, -1, self.size)
        sums = mass.sum(2, keepdim=True)
        shares = (mass / sums.masked_fill(sums == 0, 1)).to(rows.dtype)
        filled = functional.pad(rows, (0, 0, 0, lacking)).view(m, -1, self.size, size)
        return then_each(self.then, (filled * shares.unsqueeze(3)).sum(2), sums[:, :, 0])
