"""Centred clipping: steps toward the rows, none of which pulls further than a radius."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.ensemble.aggregators.aggregator import Kept
from hansa.ensemble.aggregators.coordinate_wise import Median
from hansa.ensemble.aggregators.whole_rows import WholeRows, settled

if TYPE_CHECKING:
    from torch import Tensor


@register(
    "centered_clipping",
    paper="Karimireddy et al.",
    year=2021,
    url="https://arxiv.org/abs/2012.10333",
)
class CenteredClipping(WholeRows):
    """From a centre, ``steps`` times the weighted mean of what leads to the rows, each clipped.

    The centre is where the receiver stands: its own model among peers, no change at a server.
    Where nobody stands anywhere, as among scores, it is the rows' median, number by number. Rows
    that are not finite pull nowhere.
    """

    radius: float = Field(1.0, gt=0, description="how far one row pulls at most (L2)")
    steps: int = Field(1, ge=1, description="how often")

    def start(self, like: Tensor) -> Kept:
        return Kept(like.detach().clone())

    def end(self, state: Kept) -> Tensor:
        rows, weights = torch.cat(state.rows), np.concatenate(state.weights)
        order = torch.from_numpy(settled(rows[None], weights)[0]).to(rows.device)
        assert state.like is not None
        mass = torch.from_numpy(weights).to(rows.device)[order]
        return self.clipped(state.like[None], rows[order][None], mass[None])[0]

    def of(self, rows: Tensor, weights: np.ndarray) -> Tensor:
        return self.many(rows[None], weights)[0]

    def batch(self, rows: Tensor, weights: Tensor) -> Tensor:
        return self.clipped(Median().many(rows), rows, weights)

    def clipped(self, centre: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        """From centres [m, D] toward rows [m, n, D] with weights float64 [m, n]."""
        bad = ~rows.detach().isfinite().all(2)
        shares = (weights / weights.sum(1, keepdim=True)).to(rows.dtype)
        if bad.any():
            rows = torch.where(bad.unsqueeze(2), centre.unsqueeze(1), rows)
        for _ in range(self.steps):
            ways = rows - centre.unsqueeze(1)
            lengths = torch.linalg.vector_norm(ways, dim=2).clamp(min=self.radius)
            pull = shares * self.radius / lengths
            centre = centre + (ways * pull.unsqueeze(2)).sum(1)
        return centre
