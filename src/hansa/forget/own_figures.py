"""What a client tells of a model: counts and sums over its own examples, of which none leaves it.

The server adds up what all tell, and takes the figures of the whole: accuracies and the metrics of
the run's file are made of sums; so is the membership attack, whose curve's area counts pairs of a
member and a stranger. The server sends the strangers' losses along, which are those of test
examples, and gets the number of pairs that a client's members win.

Examples that a marker has spoiled are counted apart (``plain`` before ``spoiled``): they are left
out of all figures but their own, unless nothing else is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.lazy import functional as F
from hansa.base.lazy import torch
from hansa.data import Backdoor, Canaries
from hansa.forget.holdings import Real
from hansa.forget.orders import Form, order
from hansa.forget.party import Party
from hansa.forget.portions import Portion
from hansa.forget.request import Request

if TYPE_CHECKING:
    from torch import Tensor

MARKERS = (Backdoor, Canaries)
"""The kinds of markers that are measured."""
FORGET, RETAIN = "forget", "retain"
_TWICE = Form((2,), mass=True)  # of plain and of spoiled examples
_TWICE_C = Form((2, "C"), mass=True)
_SOME = Form((2,), mass=True, due=False)


@order("survey", forget=_TWICE_C, retain=_TWICE_C, planted=_TWICE)
def survey(party: Party, request: dict[str, Any], past: dict[str, Any]) -> dict[str, np.ndarray]:
    """How much of a request a client holds.

    Returns:
        ``forget``, ``retain``: int64 [2, C], its examples of each class, plain and spoiled, that
        are to be forgotten and that remain. ``planted``: int64 [kinds], those of
        :data:`MARKERS` among the former.
    """
    classes, told = party.dataset.spec.classes, {}
    for side in (FORGET, RETAIN):
        index, spoiled = _side(party, side, request, past)
        labels = party.dataset.train.targets.cpu().numpy()[index]
        told[side] = np.stack(
            [np.bincount(labels[spoiled == s], minlength=classes) for s in (False, True)]
        )
    index = _side(party, FORGET, request, past)[0]
    told["planted"] = np.array([np.isin(_planted(party, kind), index).sum() for kind in MARKERS])
    return told


@order("measure", forget_hits=_SOME, retain_hits=_SOME, wins=_SOME)
def measure(
    party: Party,
    row: np.ndarray,
    request: dict[str, Any],
    past: dict[str, Any],
    sides: Sequence[str],
    strangers: np.ndarray,
    metrics: bool = False,
) -> dict[str, np.ndarray]:
    """How a model [D] does on what a client holds of a request.

    Args:
        sides: of which parts to tell.
        strangers: float64 [s], losses of test examples, ascending.
        metrics: also what the metrics of the run say.

    Returns:
        For each side, of its plain and its spoiled examples: ``SIDE_hits`` int64 [2], those that
        get their class, and ``SIDE_sums`` float64 [2, S], the metrics' sums ([2, 0] where it has no
        example). Of what is to be forgotten, ``wins`` int64 [2], twice the pairs in which its loss
        is below a stranger's (a tie counts as half a pair), and ``canaries`` int64, hits among
        planted ones.
    """
    model, told = torch.from_numpy(row).to(party.dataset.train.targets.device), {}
    for side in sides:
        index, spoiled = _side(party, side, request, past)
        y, scores = _scores(party, model, index)
        hits = (scores.argmax(1) == y).cpu().numpy()
        parts = [torch.from_numpy(np.flatnonzero(spoiled == s)).to(y.device) for s in (False, True)]
        told[f"{side}_hits"] = np.array([hits[at.cpu().numpy()].sum() for at in parts])
        if metrics:
            told[f"{side}_sums"] = _sums(party, scores, y, parts)
        if side == FORGET:
            losses = F.cross_entropy(scores, y, reduction="none").double().cpu().numpy()
            told["wins"] = np.array([wins(losses[spoiled == s], strangers) for s in (False, True)])
            told["canaries"] = np.array(hits[np.isin(index, _planted(party, Canaries))].sum())
    return told


@order("compare", same=_TWICE, apart=Form((2,)))
def compare(
    party: Party,
    row: np.ndarray,
    oracle: np.ndarray,
    request: dict[str, Any],
    past: dict[str, Any],
) -> dict[str, np.ndarray]:
    """How alike two models [D] predict what a client is to forget.

    Returns:
        Of plain and spoiled examples: ``same`` int64 [2], those that get the same class of both,
        and ``apart`` float64 [2], half the sums of the distances of their probabilities.
    """
    index, spoiled = _side(party, FORGET, request, past)
    device = party.dataset.train.targets.device
    p, q = (
        F.softmax(_scores(party, torch.from_numpy(model).to(device), index)[1], 1)
        for model in (row, oracle)
    )
    same = (p.argmax(1) == q.argmax(1)).cpu().numpy()
    apart = (p - q).abs().sum(1).double().cpu().numpy() / 2
    parts = [spoiled == s for s in (False, True)]
    return {
        "same": np.array([same[part].sum() for part in parts]),
        "apart": np.array([apart[part].sum() for part in parts]),
    }


def _sums(party: Party, scores: Tensor, y: Tensor, parts: Sequence[Tensor]) -> np.ndarray:
    """The metrics' sums [parts, S] of some examples; users' own need not take none of them."""
    measured = party.plan.metrics
    sums = [measured.sums(scores[at], y[at]).cpu().numpy() if len(at) else None for at in parts]
    none = np.zeros(max((len(one) for one in sums if one is not None), default=0))
    return np.stack([none if one is None else one for one in sums])


def wins(members: np.ndarray, strangers: np.ndarray) -> int:
    """Twice the pairs whose member has the lower loss, ties counting half, of losses [m] and [s].

    Over the union of some members it is the sum.

    Args:
        strangers: ascending, NaN last.
    """
    members = np.sort(members)
    below = np.searchsorted(members, strangers, side="left")
    upto = np.searchsorted(members, strangers, side="right")
    return int((below + upto).sum())


def _side(
    party: Party, side: str, request: dict[str, Any], past: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """(int64 [m] positions in the training set, which of them are spoiled)."""
    asked, gone = Request.parse(request), Request.parse(past)
    held = party.holding(Portion(side == FORGET, asked, gone))
    index = held.index if isinstance(held, Real) else np.zeros(0, np.int64)
    return index, np.isin(index, np.concatenate([_planted(party, kind) for kind in MARKERS]))


def _planted(party: Party, kind: type) -> np.ndarray:
    """int64 [k]: its examples that markers of a kind have spoiled."""
    planted = [p for p in party.dataset.planted if p.client == party.client]
    return np.concatenate(
        [np.zeros(0, np.int64), *(p.index for p in planted if isinstance(p.marker, kind))]
    )


def _scores(party: Party, row: Tensor, index: np.ndarray) -> tuple[Tensor, Tensor]:
    """(classes, a model's scores) of some training examples."""
    train = party.dataset.train
    at = torch.from_numpy(index).to(train.targets.device)
    if not len(index):
        return train.targets[at], torch.zeros(0, party.dataset.spec.outputs, device=at.device)
    x, y = party.dataset.gather(train, at)
    return y, party.network.logits(row, x)
