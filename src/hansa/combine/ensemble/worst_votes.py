"""How a rule does where some members lie: the K-vote on proxies, by the worst members to lie.

The members of an ensemble are told apart, so that it matters who lies. Where there are few sets of
f members, all are tried. Else the worst set of each proxy is looked for greedily, rival by rival,
the member first whose lie takes most of the lead: for rules that sum over members that is the worst
set exactly, for others it is an upper bound of what is left.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from hansa.base.lazy import torch, without_gradients
from hansa.ensemble.kvote import Scorer, forge, kvote, margins
from hansa.ensemble.panel import Panel, rows_of

if TYPE_CHECKING:
    from torch import Tensor, nn

SETS = 64
"""Sets of members that are all tried."""


def scorer_of(module: nn.Module, panel: Panel, rows: Tensor) -> tuple[Scorer, Tensor]:
    """A rule as it answers to other scores beside the same inputs; and the scores [m, M, C].

    Args:
        rows: what the rule gets of m examples.
    """
    scores = panel.scores(rows)
    inputs = rows[:, panel.width :] if rows.shape[1] > panel.width else None

    def answer(forged: Tensor) -> Tensor:
        beside = None if inputs is None else inputs.repeat(len(forged) // len(inputs), 1)
        whole = rows_of(forged.transpose(0, 1), beside)
        return torch.cat([module(piece) for piece in whole.split(4096)])

    return answer, scores


@without_gradients
def robust_hits(
    module: nn.Module, panel: Panel, rows: Tensor, targets: Tensor, votes: Tensor, f: int
) -> Tensor:
    """Which examples the rule gets right whoever of f members lie, whatever they vote: bool [m].

    Args:
        module: rows of scores -> scores.
        votes: [K, C], see :func:`hansa.ensemble.kvote.surest_votes`.
    """
    answer, scores = scorer_of(module, panel, rows)
    right = margins(answer(scores), targets) > 0
    if not f:
        return right
    for liars in _sets(panel.members, f):
        at = right.nonzero()[:, 0]
        if not len(at):
            return right
        some, own = scorer_of(module, panel, rows[at])
        right[at] = kvote(some, own, torch.tensor(liars), targets[at], votes)
    if not exact(panel.members, f):
        at = right.nonzero()[:, 0]
        right[at] = _greedily(module, panel, rows[at], targets[at], votes, f)
    return right


def exact(members: int, f: int) -> bool:
    """Whether all sets of f members are tried."""
    return math.comb(members, f) <= SETS


def _sets(members: int, f: int) -> list[tuple[int, ...]]:
    return list(itertools.combinations(range(members), f)) if exact(members, f) else []


def _greedily(
    module: nn.Module, panel: Panel, rows: Tensor, targets: Tensor, votes: Tensor, f: int
) -> Tensor:
    """Which examples stay right under the greedy choice of liars, bool [m]."""
    right = torch.ones(len(rows), dtype=torch.bool)
    everybody = torch.eye(panel.members, dtype=torch.bool)
    for rival in range(len(votes)):
        at = (right & (targets != rival)).nonzero()[:, 0]
        if not len(at):
            continue
        answer, scores = scorer_of(module, panel, rows[at])
        lie = votes[rival].to(scores).expand(len(at), -1)
        lying = torch.zeros(len(at), panel.members, dtype=torch.bool)
        for _ in range(f):
            left = torch.stack(
                [margins(answer(forge(scores, lying | one, lie)), targets[at]) for one in everybody]
            )
            left = left.masked_fill(lying.T, torch.inf)
            lying = lying | everybody[left.argmin(0)]
        right[at] &= margins(answer(forge(scores, lying, lie)), targets[at]) > 0
    return right
