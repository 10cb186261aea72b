"""Task arithmetic: task vectors, added and scaled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from hansa.base.component import register
from hansa.combine.merge.algorithms.merging import BlockFacts, LinearMerging, check_weights

if TYPE_CHECKING:
    from torch import Tensor


@register(
    "task_arithmetic", paper="Ilharco et al.", year=2023, url="https://arxiv.org/abs/2212.04089"
)
class TaskArithmetic(LinearMerging):
    """Lambda times the sum of the task vectors, or times their mean (Ilharco et al., 2023).

    FlexMerge takes the mean, so that one lambda serves groups of every size; the paper takes the
    sum, whose lambda is n times smaller for n tasks (0.3 for 8). In a sum a weight may be below 0,
    which takes a task away.
    """

    scale: float = Field(1.0, description="lambda, what the sum or the mean is multiplied with")
    form: Literal["mean", "sum"] = Field("mean", description="of the task vectors")

    def check(self, models: int) -> None:
        check_weights(self.weights, models, signed=self.form == "sum")

    def coefficients(self, about: BlockFacts) -> Tensor:
        weights = self.member_weights(about)
        if self.form == "sum":
            return weights * self.scale
        total = weights.sum()
        return weights * (self.scale / total) if total > 0 else weights
