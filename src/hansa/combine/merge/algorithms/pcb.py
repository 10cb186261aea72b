"""PCB: numbers compete with their own vector's and with the other tasks'; the best stay."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.combine.merge.algorithms.merging import (
    BlockFacts,
    Merged,
    MergingAlgorithm,
    weighted_sum,
)
from hansa.combine.merge.algorithms.trimming import at_ranks, ranked_values

if TYPE_CHECKING:
    from torch import Tensor

    from hansa.combine.merge.algorithms.merging import Rows

_CLIPPED = 1e-4
"""Share of the largest and of the smallest numbers that are clipped before they compete."""


@register("pcb", paper="Du et al.", year=2024, url="https://arxiv.org/abs/2410.02396")
class Pcb(MergingAlgorithm):
    """Parameter competition balancing (Du et al., NeurIPS 2024).

    A number's score is exp(n a²), with a its clipped value brought to [0, 1] in its own vector,
    times tanh of its product with the sum over all tasks. A vector's ``keep`` best numbers weigh by
    their score brought to [0, 1], all others 0; the result is the weighted mean. Clipping is at
    the model's own 0.01 % and 99.99 % of absolute values; scores are of the block. Published code
    reads the ratio both ways: here ``keep`` is the share that stays.
    """

    keep: float = Field(0.1, gt=0, le=1, description="share of the numbers that stay")
    scale: float = Field(1.2, description="lambda, what the result is multiplied with")

    def cutoff_ranks(self, numbers: int) -> tuple[int, ...]:
        clipped = math.floor(_CLIPPED * numbers)
        return clipped, numbers - 1 - clipped

    def combine(self, taus: Rows, prepared: Rows, about: BlockFacts) -> Merged:
        count, size = len(taus), len(taus[0])
        cutoffs = about.cutoffs
        if cutoffs is None:
            cutoffs = ranked_values(torch.stack(list(taus)), self.cutoff_ranks(size))
        everybody = weighted_sum(taus, torch.ones(count))
        total, mass = torch.zeros_like(everybody), torch.zeros_like(everybody)
        last_out = math.floor(size * (1 - self.keep) + 1e-6)  # the best of those that weigh nothing
        for tau, (high, low) in zip(taus, cutoffs, strict=True):
            clipped = tau.abs().clamp_(low, high).mul_(tau.sign())
            score = _to_unit(clipped).square_().mul_(count).exp_()
            score.mul_(torch.tanh(tau * everybody))
            if last_out:
                score.clamp_(min=at_ranks(score, [min(last_out, size - 1)]))
            weight = _to_unit(score)
            total.addcmul_(weight, tau)
            mass.add_(weight)
        total.div_(mass.masked_fill_(mass == 0, 1))
        return Merged(total.mul_(self.scale))


def _to_unit(values: Tensor) -> Tensor:
    """Values [d] moved and scaled to [0, 1]; all 1 where they are alike: nothing competes."""
    low, high = values.aminmax()
    return (values - low).div_(high - low) if high > low else torch.ones_like(values)
