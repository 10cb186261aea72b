"""TALL masks: a task keeps of the merged vector what it would miss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.combine.merge.algorithms.around import Around
from hansa.combine.merge.algorithms.merging import BlockFacts, Merged, MergingAlgorithm, spans
from hansa.combine.merge.algorithms.task_arithmetic import TaskArithmetic

if TYPE_CHECKING:
    from torch import Tensor

    from hansa.combine.merge.algorithms.merging import Rows


class Activated(Around):
    """What asks which numbers of a merged vector a task needs: |t| > threshold |merged - t|."""

    inner: MergingAlgorithm = Field(TaskArithmetic(), description="what makes the merged vector")
    threshold: float = Field(
        0.3, ge=0, description="how large a task's number must be against what merging changed"
    )

    @field_validator("inner")
    @classmethod
    def _plain(cls, inner: MergingAlgorithm) -> MergingAlgorithm:
        if inner.masked:
            fix = "task_arithmetic, ties, or another without"
            raise ConfigError("inner", inner.name, "has masks already", fix)
        return inner

    @property
    def compares(self) -> bool:
        return True

    def activated(self, tau: Tensor, merged: Tensor) -> Tensor:
        """Which numbers, bool [d], of the merged vector a task with vector tau [d] needs."""
        needed = torch.empty(len(tau), dtype=torch.bool)
        for span in spans(len(tau)):
            changed = (merged[span] - tau[span]).abs_().mul_(self.threshold)
            torch.gt(tau[span].abs(), changed, out=needed[span])
        return needed


@register("tall_mask", paper="Wang et al.", year=2024, url="https://arxiv.org/abs/2405.07813")
class TallMask(Activated):
    """A mask a task over a merged vector, kept for inference (Wang et al., ICML 2024).

    What FlexMerge calls Consensus, over task arithmetic or over TIES. ``consensus`` is the other
    algorithm of the paper, which leaves one model without masks.
    """

    @property
    def masked(self) -> bool:
        return True

    def combine(self, taus: Rows, prepared: Rows, about: BlockFacts) -> Merged:
        merged = self.inner.combine(taus, prepared, about).vector
        return Merged(merged, torch.stack([self.activated(tau, merged) for tau in taus]))
