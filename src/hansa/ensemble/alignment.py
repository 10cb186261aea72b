"""Scores of members that mean different things, made comparable before a rule sees them.

A network gives logits, whose level says nothing; a forest gives log-probabilities, which are never
above 0; a margin is on a scale of its own. A rule that weighs members class by class would compare
such numbers as if they were one. So where members differ in kind, each member's scores become
log-odds against their own mean over the classes, and are stretched by one factor a member, so that
on the proxies all members are equally sure of the class that they answer (as a temperature does;
Guo et al., ICML 2017, but without labels). How large the other classes' scores are has no part in
that: a network spreads over many classes, a margin after a softmax stands alone, and would outbid
all others if both were equally large in the mean. No member's own prediction changes. Members of
one kind are left as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hansa.base.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

ScoreKind = Literal["logits", "log_probabilities", "probabilities", "margins"]
"""What a member's scores are; margins: of a decision function, after a log-softmax."""

LEAST = 1e-3
"""Probability of a class that a member rules out: its score must be finite, for others to
outweigh it."""
_CLOSE = 1e-3


@dataclass(frozen=True)
class Alignment:
    """From one member's scores to comparable ones.

    Attributes:
        kind: what its scores are.
        factor: by what they are stretched.
    """

    kind: ScoreKind
    factor: float = 1.0

    def __call__(self, scores: Tensor) -> Tensor:
        """Scores [..., C] as log-odds [..., C]; the largest stays the largest."""
        return self.factor * log_odds(scores, self.kind)


def log_odds(scores: Tensor, kind: ScoreKind) -> Tensor:
    """Scores [..., C] against their mean over the classes; of one score, which tells two classes
    apart, the log-odds of the second."""
    if scores.shape[-1] == 1:
        if kind != "probabilities":
            return scores  # it is the log-odds
        share = scores.clamp(LEAST, 1 - LEAST)
        return share.log() - (-share).log1p()
    if kind == "probabilities":
        scores = scores.clamp(min=LEAST).log()
    return scores - scores.mean(-1, keepdim=True)


def kind_of(scores: Tensor) -> ScoreKind:
    """What a network's scores [m, C] are, by their numbers: a network may end in a softmax.

    One score is taken for a logit.
    """
    if scores.shape[-1] == 1 or not len(scores):
        return "logits"
    if float(scores.min()) >= 0 and bool(((scores.sum(-1) - 1).abs() < _CLOSE).all()):
        return "probabilities"
    if bool((torch.logsumexp(scores, -1).abs() < _CLOSE).all()):
        return "log_probabilities"
    return "logits"


def alignments(scores: Tensor, kinds: Sequence[ScoreKind]) -> list[Alignment] | None:
    """How to make the scores of M members comparable, or None where they are: all of one kind.

    Args:
        scores: [M, m, C] on examples that are typical of what members will be asked.
        kinds: of each member.
    """
    if len(set(kinds)) <= 1:
        return None
    odds = [log_odds(own, kind).double() for own, kind in zip(scores, kinds, strict=True)]
    sizes = torch.stack([_answered(own).square().mean().sqrt() for own in odds])
    sized = sizes > 0  # who scores all classes alike has no size
    common = sizes[sized].log().mean().exp() if sized.any() else torch.ones(())
    factors = torch.where(sized, common / sizes.clamp(min=torch.finfo(sizes.dtype).tiny), 1.0)
    return [Alignment(kind, float(f)) for kind, f in zip(kinds, factors, strict=True)]


def _answered(odds: Tensor) -> Tensor:
    """The log-odds of the class that is answered [m]."""
    return odds[..., 0] if odds.shape[-1] == 1 else odds.max(-1).values
