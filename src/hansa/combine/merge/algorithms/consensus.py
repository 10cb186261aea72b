"""Consensus merging: keep the numbers that several tasks need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.combine.merge.algorithms.merging import BlockFacts, Merged
from hansa.combine.merge.algorithms.tall_mask import Activated

if TYPE_CHECKING:
    from hansa.combine.merge.algorithms.merging import Rows


@register("consensus", paper="Wang et al.", year=2024, url="https://arxiv.org/abs/2405.07813")
class Consensus(Activated):
    """A merged vector without what fewer than k tasks need (Wang et al., ICML 2024, section 4).

    One model, no masks. FlexMerge gives the name to ``tall_mask``, which keeps a mask a task.
    k = 0 is the inner algorithm, k above the number of tasks gives the base.
    """

    agreeing: int = Field(2, ge=0, description="k, how many tasks have to need a number")

    def combine(self, taus: Rows, prepared: Rows, about: BlockFacts) -> Merged:
        merged = self.inner.combine(taus, prepared, about).vector
        needing = torch.zeros(merged.shape, dtype=torch.int32)
        for tau in taus:
            needing.add_(self.activated(tau, merged))
        return Merged(merged.mul_(needing >= self.agreeing))
