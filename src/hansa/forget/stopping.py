"""When the ascent stops: at losses that a model without the data would have on them, foretold.

Of a class that nobody keeps, a model can only guess: its loss is to be log K, **and** at most one
in K of its examples may still be right. The loss alone is not enough: a mean is carried by its
tail, and with few classes log K is passed while half of the class is still known.

What a client teaches is mostly known to others as well. Take the loss on a class to fall as one
over the examples of it that a model was trained on (the fast rate of learning theory; harder tasks
learn slower), so that with m of n left it is n / m times as high:

    target_c = min(log K, loss_c * n_c / m_c)

for each class c of what leaves, which is ascended on until its loss is there. Counts of classes
are what clients tell when they join. Where the run holds validation examples, ``loss_c`` is at
least theirs: what leaves is no longer seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.forget.federation import Asking, Federation
from hansa.forget.portions import Held
from hansa.forget.telling import Told, tell, told

if TYPE_CHECKING:
    from torch import Tensor

NEAR = 0.9
"""Share of the foretold losses from which on they count as reached: they are estimates."""
CLOSE = 0.95
"""Share of its aim from which on a class is ascended on no more, where the aim is an estimate."""
OVERSHOOT = 1.1
"""A step that takes a foretold loss further than this many times the aim is shortened."""
GAIN = 0.5
"""How much of what recovery takes back the next ascent goes beyond the target, in logarithms: all
of it would be too much, as there is less to take back from round to round."""
SAFE = 0.5
"""Of what may still be right, the share that the holders' own examples may take: examples that
nobody holds are more often right than those by which it is judged. An ascent aims at this share of
it again, as recovery brings some back."""
_MOST = 1.0  # a step may raise the loss of classes by so many times their aim,
_DOWN = 0.1  # or lower it by so much
_HIGHEST = 2.0  # times log K: no aim for a client is further
_FURTHER = 1.3  # times the aim of a class whenever it has come back,
_FURTHEST = 4.0  # up to so many times its target


@dataclass
class Goal:
    """Where something counts as forgotten: a loss, and a share still right, for each class.

    Attributes:
        target: float64 [C], where the losses are to be in the end; None if nobody looks.
        share: [C], what each counts, adding up to 1; a class with 0 is no part of it.
        most: the largest share of each class that may still be right; 1: whatever the loss gives.
        gently: whether too much can be forgotten: steps go little beyond the aim.
        aim: where the ascent goes, which may be further, as recovery takes some of it back.
        most_aim: the same of the share that is still right.
        ascended: the losses at which the last ascent has arrived.
        pace: the rate to which it has adapted; 0 before the first.
    """

    target: np.ndarray | None
    share: np.ndarray = field(default_factory=lambda: np.ones(1))
    most: float = 1.0
    gently: bool = False
    aim: np.ndarray = field(init=False)
    most_aim: float = field(init=False)
    ascended: np.ndarray = field(init=False)
    pace: float = 0.0

    def __post_init__(self) -> None:
        self.aim = np.full(1, np.inf) if self.target is None else self.target
        self.most_aim = self.most if self.gently else self.most * SAFE
        self.ascended = np.zeros_like(self.aim)

    def mean(self, losses: np.ndarray) -> float:
        """One number for some losses [C]."""
        return float((self.share * losses).sum())

    def low(self, told: Told) -> np.ndarray:
        """Which classes are still known too well: bool [C]."""
        far = told.losses < self.aim * (CLOSE if self.gently else 1.0)
        return (self.share > 0) & (far | (told.right > self.most_aim))

    def reached(self, told: Told) -> bool:
        """Whether it counts as forgotten; what is beyond in one class makes up for no other."""
        if self.target is None:
            return True
        if not told.finite:
            return False
        if self.gently:
            missing = self.mean(np.maximum(self.target - told.losses, 0.0))
            return missing <= (1 - NEAR) * self.mean(self.target)
        done = (told.losses < self.target) | (told.right > self.most)
        return not bool((done & (self.share > 0)).any())

    def gain(self, before: Told, after: Told, low: np.ndarray) -> float:
        """By how much of their aim the losses of some classes, bool [C], have risen."""
        risen = self.share * (after.losses - before.losses)
        return float(risen[low].sum() / (self.share * self.aim)[low].sum())

    def fits(self, before: Told, after: Told, low: np.ndarray) -> bool:
        """Whether a step of ascent on some classes, bool [C], went neither too far nor down."""
        if not after.finite:
            return False
        if self.gently:
            far = OVERSHOOT * (self.share * self.aim)[low].sum()
            return bool((self.share * after.losses)[low].sum() <= far)
        return -_DOWN <= self.gain(before, after, low) <= _MOST

    def aim_beyond(self, told: Told, chance: float) -> None:
        """Aim beyond the target, as the last recovery has come back, to what was told."""
        if self.target is None:
            return
        if self.gently:
            back = np.maximum(self.ascended / np.maximum(told.losses, 1e-6), 1.0) ** GAIN
            self.aim = np.maximum(np.minimum(self.target * back, _HIGHEST * chance), self.target)
        else:
            self.aim = np.minimum(self.aim * _FURTHER, self.target * _FURTHEST)
            self.most_aim *= SAFE


@dataclass(frozen=True)
class Watch:
    """A part of a request that is looked at during recovery, and may be driven out again.

    Attributes:
        federation: the clients with this part of the request alone.
        holdings: what is ascended on.
    """

    federation: Federation
    holdings: Sequence[Held]
    goal: Goal


def guessing(federation: Federation, judges: Sequence[Held], until: float = 1.0) -> Goal:
    """The goal for classes that go: a loss of ``until`` times log K and 1 in K right, each."""
    held = np.zeros(federation.classes)
    for one in judges:
        held += one.counts
    share = held / max(held.sum(), 1)
    target = np.where(held > 0, until * federation.chance, 0.0)
    return Goal(target, share, most=SAFE / federation.classes)


def foretold_losses(
    federation: Federation, row: Tensor, judges: Sequence[Held]
) -> Asking[tuple[np.ndarray, np.ndarray]]:
    """The losses on what a request names of a model that was trained without it.

    Args:
        row: float32 [D], a model that was trained with it.
        judges: what the request names.

    Returns:
        float64 [C] losses, 0 for classes that it does not name, and [C] their shares.
    """
    now = yield from tell(federation, row, judges)
    gone, staying = np.zeros_like(now.counts), np.zeros_like(now.counts)
    for counts, forget in ((gone, True), (staying, False)):
        for one in (yield from federation.real(forget)):
            counts += one.counts
    loss = now.losses
    if (validation := federation.plan.dataset.validation) is not None:
        everything = torch.arange(len(validation), device=validation.targets.device)
        x, y = federation.plan.dataset.gather(validation, everything)
        federation.ledger.now.sample_checks += len(y)
        unseen = told(federation.network, row, x, y, federation.classes)
        loss = np.maximum(loss, unseen.losses)
    grown = loss * (gone + staying) / np.maximum(staying, 1)
    expected = np.where(staying > 0, np.minimum(grown, federation.chance), federation.chance)
    return np.where(now.counts > 0, expected, 0.0), now.counts / max(now.counts.sum(), 1)
