"""The K-vote: the worst that liars can make a rule answer, by one try a class.

One-hot row e_j is the largest possible number at class j and the smallest at all others at once. So
where a rule is monotone, each of its scores rising with the same class's numbers alone (mean,
trimmed mean, median, votes), liars whose identity is fixed do their worst by all sending e_j, for
the best j that is not the true class: K - 1 tries give the robust accuracy exactly, without a
gradient. For other rules it is an attack like any other, strong and cheap. Rows are probabilities;
for scores on another scale :func:`surest_votes` says what a vote is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from hansa.base.lazy import torch, without_gradients

if TYPE_CHECKING:
    from torch import Tensor

Scorer: TypeAlias = "Callable[[Tensor], Tensor]"
"""Rows [m, n, C] of n members -> scores [m, C]."""
Liars: TypeAlias = "Tensor | np.ndarray"
"""Who lies: bool [n] or [m, n], or numbers of members int64 [f] or [m, f]."""

_NUMBERS = 1 << 22
"""Numbers of forged rows that are scored at a time."""


def kvote(
    scores_fn: Scorer,
    probabilities: Tensor,
    liars: Liars,
    labels: Tensor,
    votes: Tensor | None = None,
) -> Tensor:
    """Whether the rule answers right whatever class the liars all vote for: bool [m].

    Args:
        scores_fn: the rule; it answers with the first of its largest scores. Of a single score a
            positive one means the second of two classes.
        probabilities: [m, n, C], the members' honest rows, never changed.
        liars: whose rows are replaced; nobody's: whether the rule is right as it is.
        labels: int64 [m], the true classes.
        votes: [K, C], the row that votes for each class; None: one-hot.
    """
    return worst_vote(scores_fn, probabilities, liars, labels, votes)[1] > 0


@without_gradients
def worst_vote(
    scores_fn: Scorer,
    probabilities: Tensor,
    liars: Liars,
    labels: Tensor,
    votes: Tensor | None = None,
    candidates: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The class int64 [m] that liars had best vote for, and the margin [m] that is left.

    The margin is the true class's score minus the largest other; above 0 the answer is right, and
    a tie that the true class loses is the smallest number below 0. Class -1: they had best be
    honest, as no vote leaves a smaller margin (never so of a monotone rule).

    Args:
        candidates: int64 [m, T], classes to try; None: all. The true one is never tried.
    """
    m, members, width = probabilities.shape
    who = mask_of(liars, m, members).to(probabilities.device)
    rows = torch.eye(width) if votes is None else votes
    rows = rows.to(probabilities)
    if candidates is None:
        candidates = torch.arange(len(rows)).expand(m, -1)
    best = margins(scores_fn(probabilities), labels)
    vote = torch.full_like(labels, -1)
    if not bool(who.any()):
        return vote, best
    span = max(1, _NUMBERS // max(1, probabilities.numel()))
    for some in candidates.to(labels.device).T.split(span):  # [t, m], each example's t-th class
        forged = forge(probabilities, who, rows[some])
        left = margins(scores_fn(forged.flatten(0, 1)), labels.repeat(len(some)))
        left = left.view(some.shape).masked_fill(some == labels, torch.inf)
        least, which = left.min(0)
        better = least < best
        best = torch.where(better, least, best)
        vote = torch.where(better, some.gather(0, which[None])[0], vote)
    return vote, best


def worst_rows(
    scores_fn: Scorer,
    probabilities: Tensor,
    liars: Liars,
    labels: Tensor,
    votes: Tensor | None = None,
    candidates: Tensor | None = None,
) -> Tensor:
    """Rows [m, n, C] with the liars' replaced by their worst vote, see :func:`worst_vote`."""
    vote, _ = worst_vote(scores_fn, probabilities, liars, labels, votes, candidates)
    m, members, width = probabilities.shape
    rows = torch.eye(width) if votes is None else votes
    lying = mask_of(liars, m, members).to(vote.device) & (vote >= 0)[:, None]
    return forge(probabilities, lying, rows.to(probabilities)[vote.clamp(min=0)])


def forge(rows: Tensor, liars: Tensor, votes: Tensor) -> Tensor:
    """Rows [m, n, C] with the liars', bool [n] or [m, n], replaced by votes [..., m, C]."""
    return torch.where(liars.unsqueeze(-1), votes.unsqueeze(-2), rows)


def mask_of(liars: Liars, m: int, members: int) -> Tensor:
    """Liars as bool [m, members]."""
    who = torch.as_tensor(liars)
    if who.dtype == torch.bool:
        return who.expand(m, members)
    index = who.long().expand(m, -1)
    return torch.zeros(m, members, dtype=torch.bool, device=who.device).scatter(1, index, True)


def margins(scores: Tensor, labels: Tensor) -> Tensor:
    """By how much the true class wins: scores [m, C], labels [m] -> [m], above 0 if it is answered.

    One score of two classes is the log-odds of the second.
    """
    if scores.shape[1] == 1:
        scores = torch.cat([torch.zeros_like(scores), scores], 1)
    own = scores.gather(1, labels[:, None])[:, 0]
    others = scores.scatter(1, labels[:, None], -torch.inf).max(1).values
    gap = own - others
    least = torch.full_like(gap, torch.finfo(gap.dtype).tiny)
    won = scores.argmax(1) == labels
    return torch.where(gap == 0, torch.where(won, least, -least), gap)


def surest_votes(scores: Tensor) -> Tensor:
    """What votes for each class look like among scores [n, m, C] of honest members: [K, C].

    Liars who send logits could send any number, and against a sum any rule would be lost. They
    vote here as loudly as the surest answer that an honest member gave: the largest distance
    between two of its scores, about the members' common level. Among probabilities that is the
    one-hot row, if anybody is quite sure.
    """
    _, _, loudest = loudness(scores)
    return votes_as_loud_as(loudest, float(scores.mean()), scores.shape[-1]).to(scores)


def loudness(scores: Tensor) -> tuple[float, float, float]:
    """(how many, their sum, the largest distance within an answer) of scores [n, m, C].

    Of disjoint examples the first two add up, and the largest of the third is theirs together, so
    clients can send theirs.
    """
    loud = scores.abs() if scores.shape[-1] == 1 else scores.amax(-1) - scores.amin(-1)
    return float(scores.numel()), float(scores.double().sum()), float(loud.max())


def votes_as_loud_as(loudest: float, mean: float, outputs: int) -> Tensor:
    """Votes for each class [K, C] at a common level and distance, see :func:`surest_votes`."""
    if outputs == 1:  # one score tells two classes apart
        return torch.tensor([-loudest, loudest], dtype=torch.float32)[:, None]
    return mean + loudest * (torch.eye(outputs) - 1 / outputs)


__all__ = [
    "Scorer",
    "forge",
    "kvote",
    "loudness",
    "margins",
    "mask_of",
    "surest_votes",
    "votes_as_loud_as",
    "worst_rows",
    "worst_vote",
]
