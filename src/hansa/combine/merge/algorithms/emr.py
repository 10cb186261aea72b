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
    Piece,
    spans,
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
        size = len(prepared[0])
        elected = torch.zeros(size)
        masks = torch.empty(len(prepared), size, dtype=torch.bool)
        for span in spans(size):
            rows = [row[span] for row in prepared]
            sign = (weighted_sum(rows, torch.ones(len(rows))) > 0).float().mul_(2).sub_(1)
            largest = elected[span]
            for row, mask in zip(rows, masks, strict=True):
                agreeing = row * sign
                torch.gt(agreeing, 0, out=mask[span])
                torch.maximum(largest, agreeing, out=largest)
            largest.mul_(sign)
        ratios = [
            self._ratio(row, elected, mask, about)
            for row, mask in zip(prepared, masks, strict=True)
        ]
        return Merged(elected, masks, torch.tensor(ratios))

    def _ratio(self, tau: Tensor, elected: Tensor, mask: Tensor, about: BlockFacts) -> float:
        """Sizes of a task vector [d] by those of its part of the elected; 1 where that is empty."""
        pieces = about.pieces if self.scaler == "official" else (Piece("", tau.shape, 0),)
        own = others = 0.0
        for piece in pieces:
            mine = theirs = 0.0
            for span in spans(piece.stop - piece.start):
                at = slice(piece.start + span.start, piece.start + span.stop)
                mine += float(tau[at].abs().sum())
                theirs += float((elected[at] * mask[at]).abs_().sum())
            count = max(1, piece.stop - piece.start) if self.scaler == "official" else 1
            own, others = own + mine / count, others + theirs / count
        return own / others if others > 0 else 1.0
