"""EMR: elect one vector, and give each task a mask and a number of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.combine.merge.algorithms.merging import (
    BlockFacts,
    Merged,
    MergingAlgorithm,
    weighted_sum,
)

if TYPE_CHECKING:
    from torch import Tensor

    from hansa.combine.merge.algorithms.merging import Rows


@register("emr", paper="Huang et al.", year=2024, url="https://arxiv.org/abs/2405.17461")
class Emr(MergingAlgorithm):
    """Elect, mask and rescale (Huang et al., NeurIPS 2024).

    A number's sign is the mean's, its size the largest of those with that sign. A task masks what
    has the other sign than its own, and multiplies by the ratio of sums of absolute values
    (``l1``), so that both have the same. The published code divides sums over tensors of their
    *means* (``official``), where small tensors count as much as large ones.
    """

    scaler: Literal["l1", "official"] = Field("l1", description="how a task rescales its part")

    @property
    def masked(self) -> bool:
        return True

    @property
    def scaled(self) -> bool:
        return True

    def combine(self, taus: Rows, prepared: Rows, about: BlockFacts) -> Merged:
        total = weighted_sum(prepared, torch.ones(len(prepared)))
        sign = torch.where(total > 0, 1.0, -1.0)
        elected = total.zero_()
        masks = torch.empty(len(prepared), len(total), dtype=torch.bool)
        for row, mask in zip(prepared, masks, strict=True):
            agreeing = row * sign
            torch.gt(agreeing, 0, out=mask)
            torch.maximum(elected, agreeing, out=elected)
        ratios = [
            self._ratio(row, elected * mask, about)
            for row, mask in zip(prepared, masks, strict=True)
        ]
        return Merged(elected.mul_(sign), masks, torch.tensor(ratios))

    def _ratio(self, tau: Tensor, part: Tensor, about: BlockFacts) -> float:
        """Absolute values of a task vector [d] by those of its part [d], 1 where that is empty."""
        own, others = self._amount(tau.abs(), about), self._amount(part.abs(), about)
        return own / others if others > 0 else 1.0

    def _amount(self, sizes: Tensor, about: BlockFacts) -> float:
        if self.scaler == "l1":
            return float(sizes.sum(dtype=torch.float64))
        pieces = (piece for piece in about.pieces if piece.stop > piece.start)
        return sum(float(piece.of(sizes).mean(dtype=torch.float64)) for piece in pieces)
