"""Who lies: the same members for every query, or for each query those who hurt most."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch, without_gradients
from hansa.base.streams import Streams
from hansa.ensemble.kvote import worst_vote
from hansa.infer.robust.score_aggregator import ScoreAggregator, Static

if TYPE_CHECKING:
    from torch import Tensor

EXHAUSTIVE = 32
"""So many sets of liars are all tried."""
_RIVALS = 24  # classes that greedy sets are made for


def fixed_liars(members: int, f: int, streams: Streams) -> np.ndarray:
    """The last f of one random order of the members, int64 [f]: f + 1 liars are one more."""
    return streams.numpy("liars").permutation(members)[members - f :]


@dataclass(frozen=True)
class WorstLiars:
    """For each query the set of liars at which a K-vote leaves the smallest margin.

    Attributes:
        liars: int64 [m, f].
        margin: [m], what it leaves; above 0 the answer is right (see ``worst_vote``).
        how: ``exact``, over all sets and votes; ``exhaustive``, over all sets; ``greedy``.
    """

    liars: Tensor
    margin: Tensor
    how: str


@without_gradients
def worst_liars(
    aggregator: ScoreAggregator, probabilities: Tensor, labels: Tensor, f: int, first: np.ndarray
) -> WorstLiars:
    """The worst set of f liars of each query.

    Of a mean it is exact: for a rival class it costs most to turn the f members who prefer the
    true class to it most. All sets are tried where there are few; else, greedy, those of the mean.

    Args:
        first: int64 [f], a set that is tried, too, so that nobody is worse off by it.
    """
    m, n = probabilities.shape[:2]
    mean = isinstance(aggregator, Static) and aggregator.aggregator.name == "mean"
    exact = mean and probabilities.shape[2] - 1 <= _RIVALS
    few = math.comb(n, f) <= EXHAUSTIVE
    start = torch.from_numpy(first).expand(m, -1)
    best = start.clone()
    _, margin = worst_vote(aggregator.scores, probabilities, start, labels)
    tries: list[tuple[Tensor, Tensor | None]] = _by_rival(probabilities, labels, f)
    if few and not exact:
        sets = itertools.combinations(range(n), f)
        tries = [(torch.tensor(who).expand(m, -1), None) for who in sets]
    for liars, votes in tries:
        _, left = worst_vote(aggregator.scores, probabilities, liars, labels, candidates=votes)
        better = left < margin
        margin = torch.where(better, left, margin)
        best = torch.where(better[:, None], liars, best)
    monotone = aggregator.monotone
    how = "exact" if exact or (few and monotone) else "exhaustive" if few else "greedy"
    return WorstLiars(best, margin, how)


def _by_rival(probabilities: Tensor, labels: Tensor, f: int) -> list[tuple[Tensor, Tensor | None]]:
    """(liars [m, f], the one vote [m, 1] that they cast) for each rival class."""
    classes = probabilities.shape[-1]
    own = probabilities.gather(2, labels[:, None, None].expand(-1, probabilities.shape[1], 1))
    rivals = probabilities.mean(1).scatter(1, labels[:, None], -1.0)
    rivals = rivals.topk(min(classes - 1, _RIVALS), -1).indices  # [m, T]
    tries: list[tuple[Tensor, Tensor | None]] = []
    for rival in rivals.T:
        theirs = probabilities.gather(2, rival[:, None, None].expand_as(own))
        liars = (own - theirs)[..., 0].topk(f, -1).indices
        tries.append((liars, rival[:, None]))
    return tries
