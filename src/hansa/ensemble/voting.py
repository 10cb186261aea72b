"""Polychotomous voting: members vote, and votes weigh by what they have been worth.

As in FENS (Allouah et al., NeurIPS 2024, appendix B), but votes are counted in log space with
smoothing: in the published product a single zero, of 20 factors, rules a class out for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy, nn, torch
from hansa.ensemble.panel import Panel
from hansa.ensemble.rules import Rule

if TYPE_CHECKING:
    from torch import Tensor

networks = Lazy("hansa.ensemble.networks")  # they need torch


def tally(logits: Tensor, targets: Tensor) -> Tensor:
    """How often each member said c where r was true: logits [M, m, C] -> [M, classes, classes].

    Tallies of disjoint examples add up, so clients can send theirs.
    """
    binary = logits.shape[-1] == 1
    classes = 2 if binary else logits.shape[-1]
    said = (logits[..., 0] > 0).long() if binary else logits.argmax(-1)
    cells = targets * classes + said
    tallies = [torch.bincount(row, minlength=classes * classes) for row in cells]
    return torch.stack(tallies).view(-1, classes, classes).double()


@register("voting", paper="Allouah et al.", year=2024, url="https://arxiv.org/abs/2411.07182")
class Voting(Rule):
    """Polychotomous voting: every member votes, votes weigh by what they have been worth.

    The class r with the largest prod_j P_j[r, vote_j]; a truth that nobody has seen counts as
    equally likely to be called anything.
    """

    counts_votes: ClassVar[bool] = True
    smoothing: float = Field(1.0, gt=0, description="votes added to each cell before shares")

    def build(self, panel: Panel, votes: Tensor | None = None) -> nn.Module:
        """Log shares of the tallies."""
        if votes is None:
            raise ConfigError("rules", self.name, "needs tallies of votes", "see tally")
        counts = votes.double() + self.smoothing / panel.classes
        return networks.Votes(panel, (counts / counts.sum(-1, keepdim=True)).log().float())
