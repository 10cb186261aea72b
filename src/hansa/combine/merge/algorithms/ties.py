"""TIES: trim, elect a sign for each number, and average those that agree with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.combine.merge.algorithms.merging import (
    BlockFacts,
    Merged,
    MergingAlgorithm,
    check_weights,
    spans,
    weights_of,
)
from hansa.combine.merge.algorithms.trimming import kept_count, trim

if TYPE_CHECKING:
    from torch import Tensor

    from hansa.combine.merge.algorithms.merging import Rows


@register("ties", paper="Yadav et al.", year=2023, url="https://arxiv.org/abs/2306.01708")
class Ties(MergingAlgorithm):
    """Trim, elect signs, and average what agrees (Yadav et al., NeurIPS 2023).

    The paper trims over the whole model, mergekit and PEFT over each tensor: ``scope``. Where
    weights are set, mergekit and PEFT weigh before the vote (``vote: after_weights``). Where the
    positive and the negative are equally strong, the sign that most other numbers of the block
    have holds; where that is even too, nobody is elected and the number stays the base's.
    """

    density: float = Field(0.2, gt=0, le=1, description="share of the numbers that trimming keeps")
    densities: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (), description="a density of each model, in their order; scope: tensor"
    )
    scope: Literal["model", "tensor"] = Field("model", description="of what it is the share")
    scale: float = Field(1.0, description="lambda, what the result is multiplied with")
    weights: tuple[float, ...] = Field((), description="of each model, in their order; none: alike")
    vote: Literal["before_weights", "after_weights"] = Field(
        "before_weights", description="whether signs are elected before or after weighing"
    )
    tie: Literal["majority", "positive"] = Field(
        "majority", description="sign of an even vote; mergekit and PEFT: positive"
    )
    normalize: bool = Field(True, description="average what agrees; no: sum it")

    def check(self, models: int) -> None:
        check_weights(self.weights, models)
        if self.densities and self.scope != "tensor":
            raise ConfigError("scope", self.scope, "has one density for all", "tensor, or density")
        if self.densities and len(self.densities) != models:
            problem = f"are {len(self.densities)} densities, and there are {models} models"
            raise ConfigError("densities", list(self.densities), problem, "one a model")

    def cutoff_ranks(self, numbers: int) -> tuple[int, ...]:
        if self.scope == "tensor" or self.density == 1:
            return ()
        return (kept_count(self.density, numbers) - 1,)

    def prepare(self, taus: Tensor, about: BlockFacts) -> Tensor:
        if not self.densities:
            return trim(taus, self.density, about, self.scope == "tensor")
        trimmed = torch.empty_like(taus)
        for row, (tau, member) in enumerate(zip(taus, about.members, strict=True)):
            part = trim(tau[None], self.densities[member], about.rows((row,)), by_tensor=True)
            trimmed[row] = part[0]
        return trimmed

    def combine(self, taus: Rows, prepared: Rows, about: BlockFacts) -> Merged:
        weights = weights_of(self.weights, about).tolist()
        total = torch.zeros_like(prepared[0])
        for row, weight in zip(prepared, weights, strict=True):
            total.add_(row, alpha=weight if self.vote == "after_weights" else 1)
        sign = self._elected(total)
        for span in spans(len(total)):
            part, mass = total[span].zero_(), torch.zeros_like(total[span])
            for row, weight in zip(prepared, weights, strict=True):
                agrees = (row[span] * sign[span]) > 0
                part.add_(row[span] * agrees, alpha=weight)
                mass.add_(agrees, alpha=weight)
            if self.normalize:
                part.div_(mass.masked_fill_(mass == 0, 1))
        return Merged(total.mul_(self.scale))

    def _elected(self, total: Tensor) -> Tensor:
        """The sign [d] that each number has to have, of the votes' sum [d]."""
        sign = total.sign()
        votes = sum(int(sign[span].sum()) for span in spans(len(sign)))
        even = 1.0 if self.tie == "positive" else float((votes > 0) - (votes < 0))
        return sign.masked_fill_(sign == 0, even)
