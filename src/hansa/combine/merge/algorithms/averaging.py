"""Averaging: the mean of the models, and their weighted mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hansa.base.component import register
from hansa.combine.merge.algorithms.merging import BlockFacts, LinearMerging

if TYPE_CHECKING:
    from torch import Tensor


@register("averaging", paper="Wortsman et al.", year=2022, url="https://arxiv.org/abs/2203.05482")
class Averaging(LinearMerging):
    """The mean of the models, weighted where weights are set (Wortsman et al., 2022).

    mergekit calls it ``linear``. Weights are of a group's members among themselves: they sum to 1.
    A group whose members all weigh nothing is averaged evenly.
    """

    def coefficients(self, about: BlockFacts) -> Tensor:
        weights = self.member_weights(about)
        total = weights.sum()
        return weights / total if total > 0 else weights.new_full(weights.shape, 1 / len(weights))
