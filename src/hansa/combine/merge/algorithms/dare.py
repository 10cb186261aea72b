"""DARE: drop most numbers of each task vector, and make the rest as much larger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.combine.merge.algorithms.around import Around
from hansa.combine.merge.algorithms.averaging import Averaging
from hansa.combine.merge.algorithms.merging import BlockFacts, MergingAlgorithm

if TYPE_CHECKING:
    from torch import Tensor


@register("dare", paper="Yu et al.", year=2024, url="https://arxiv.org/abs/2311.03099")
class Dare(Around):
    """Drop each number with probability p, divide the rest by 1 - p, then merge (Yu et al., 2024).

    What is dropped depends on the seed, the model and the block alone, so that a group of any size
    meets the same numbers. The mean over seeds is the task vector itself.
    """

    drop: float = Field(0.9, ge=0, le=1, description="p, the chance of a number to be dropped")
    drops: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (), description="p of each model, in their order; none: drop for all"
    )
    rescale: bool = Field(True, description="divide what stays by 1 - p")
    inner: MergingAlgorithm = Field(Averaging(), description="what merges the dropped vectors")

    def check(self, models: int) -> None:
        super().check(models)
        if self.drops and len(self.drops) != models:
            problem = f"are {len(self.drops)}, and there are {models} models"
            raise ConfigError("drops", list(self.drops), problem, "one a model, in their order")

    def ranked(self, taus: Tensor, about: BlockFacts) -> Tensor:
        return super().ranked(self._dropped(taus, about), about)

    def prepare(self, taus: Tensor, about: BlockFacts) -> Tensor:
        return super().prepare(self._dropped(taus, about), about)

    def _dropped(self, taus: Tensor, about: BlockFacts) -> Tensor:
        dropped = torch.zeros_like(taus)
        for row, tau, member in zip(dropped, taus, about.members, strict=True):
            drop = self.drops[member] if self.drops else self.drop
            if drop == 1:  # nothing stays: 0, and not 0 / 0
                continue
            draws = about.streams.numpy(f"dare.{about.name}", node=member).random(
                tau.numel(), dtype="float32"
            )
            torch.mul(tau, torch.from_numpy(draws) >= drop, out=row)
            if self.rescale:
                row.mul_(1 / (1 - drop))
        return dropped
