"""When the ascent stops: the loss that a model without the data would have on them, foretold.

Of a class that nobody keeps, a model can only guess: log K. What a client teaches is mostly known
to others as well. Take the loss on a class to fall as one over the examples of it that a model was
trained on (the fast rate of learning theory; harder tasks learn slower), so that with m of n left
it is n / m times as high:

    target_c = min(log K, loss_c * n_c / m_c)

for each class c of what leaves, which is ascended on until its loss is there. Counts of classes
are what clients tell when they join. Where the run holds validation examples, ``loss_c`` is at
least theirs: what leaves is no longer seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import functional as F
from hansa.base.lazy import torch
from hansa.forget.federation import Federation
from hansa.forget.holdings import Holding, Real, Synthetic

if TYPE_CHECKING:
    from torch import Tensor

NEAR = 0.9
"""Share of the foretold losses from which on they count as reached: they are estimates."""
CLOSE = 0.95
"""Share of its aim from which on a class is ascended on no more."""
OVERSHOOT = 1.1
"""A step that takes the loss further than this many times the aim is shortened."""
GAIN = 0.5
"""How much of what recovery takes back the next ascent goes beyond the target, in logarithms: all
of it would be too much, as there is less to take back from round to round."""
_HALVINGS = 4
_HIGHEST = 2.0  # times log K: no aim is further


@dataclass
class Goal:
    """The losses at which something counts as forgotten, one for each class or one in all.

    Attributes:
        target: float64 [C] or [1], where the losses are to be in the end; None if nobody looks.
        share: [C] or [1], what each counts; a class with 0 is no part of it.
        gently: whether classes stop one by one, steps may be shortened and the aim moved: where
            too much can be forgotten.
        aim: where the ascent goes, which may be further, as recovery takes some of it back.
        ascended: where the last ascent has arrived.
    """

    target: np.ndarray | None
    share: np.ndarray = field(default_factory=lambda: np.ones(1))
    gently: bool = False
    aim: np.ndarray = field(init=False)
    ascended: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.aim = np.full(1, np.inf) if self.target is None else self.target
        self.ascended = np.zeros_like(self.aim)

    def mean(self, losses: np.ndarray) -> float:
        """One number for some losses."""
        return float((self.share * losses).sum())

    def low(self, losses: np.ndarray) -> np.ndarray:
        """Which are still below the aim: bool, one for each loss."""
        return (self.share > 0) & (losses < self.aim * (CLOSE if self.gently else 1.0))

    def reached(self, losses: np.ndarray) -> bool:
        """Whether it counts as forgotten: little is missing; what is beyond makes up for none."""
        if self.target is None:
            return True
        missing = self.mean(np.maximum(self.target - losses, 0.0))
        return missing <= ((1 - NEAR) * self.mean(self.target) if self.gently else 0.0)

    def aim_beyond(self, losses: np.ndarray, chance: float) -> None:
        """Aim beyond the target, as the last recovery has come back, to these losses."""
        if self.gently and self.target is not None:
            back = np.maximum(self.ascended / np.maximum(losses, 1e-6), 1.0) ** GAIN
            self.aim = np.maximum(np.minimum(self.target * back, _HIGHEST * chance), self.target)


@dataclass(frozen=True)
class Watch:
    """A part of a request that is looked at during recovery, and may be driven out again.

    Attributes:
        federation: the clients with this part of the request alone.
        holdings: what is ascended on.
    """

    federation: Federation
    holdings: Sequence[Holding]
    goal: Goal


def class_losses(
    federation: Federation, row: Tensor, judges: Sequence[Holding]
) -> tuple[np.ndarray, np.ndarray]:
    """(sum of the cross-entropies [C], number [C]) of each class of what clients hold."""
    classes = federation.classes
    sums, counts = np.zeros(classes), np.zeros(classes, dtype=np.int64)
    for holding in judges:
        if isinstance(holding, Real):  # all of them: a target is no matter of a lucky batch
            train = holding.dataset.train
            index = torch.from_numpy(holding.index).to(train.targets.device)
            x, y = holding.dataset.gather(train, index)
        else:
            x, y, _ = holding.draw(federation.random(holding.client))
        some, count = _losses(federation, row, x, y)
        sums, counts = sums + some, counts + count
    return sums, counts


def foretold_losses(
    federation: Federation, row: Tensor, judges: Sequence[Holding]
) -> tuple[np.ndarray, np.ndarray]:
    """The losses on what a request names of a model that was trained without it.

    Args:
        row: float32 [D], a model that was trained with it.
        judges: what the request names.

    Returns:
        float64 [C] losses, 0 for classes that it does not name, and [C] their shares.
    """
    sums, leaving = class_losses(federation, row, judges)
    gone, staying = np.zeros_like(leaving), np.zeros_like(leaving)
    targets = federation.job.dataset.train.targets.cpu().numpy()
    for counts, forget in ((gone, True), (staying, False)):
        for holding in federation.real(forget):
            counts += np.bincount(targets[holding.index], minlength=len(counts))
    loss = sums / np.maximum(leaving, 1)
    if (validation := federation.job.dataset.validation) is not None:
        everything = torch.arange(len(validation), device=validation.targets.device)
        x, y = federation.job.dataset.gather(validation, everything)
        unseen, count = _losses(federation, row, x, y)
        loss = np.maximum(loss, unseen / np.maximum(count, 1))
    grown = loss * (gone + staying) / np.maximum(staying, 1)
    expected = np.where(staying > 0, np.minimum(grown, federation.chance), federation.chance)
    return np.where(leaving > 0, expected, 0.0), leaving / leaving.sum()


def mean_losses(federation: Federation, row: Tensor, judges: Sequence[Holding]) -> np.ndarray:
    """Mean cross-entropy of each class [C] of what clients hold, 0 where they hold none."""
    sums, counts = class_losses(federation, row, judges)
    return sums / np.maximum(counts, 1)


def only(holdings: Sequence[Holding], classes: np.ndarray) -> list[Holding]:
    """What clients hold of some classes, bool [C]."""
    found: list[Holding] = []
    for holding in holdings:
        if isinstance(holding, Real):
            labels = holding.dataset.train.targets.cpu().numpy()[holding.index]
            if (kept := classes[labels]).any():
                found.append(replace(holding, index=holding.index[kept]))
        elif isinstance(holding, Synthetic):
            chosen = torch.from_numpy(classes).to(holding.y.device)[holding.y]
            if chosen.any():
                found.append(replace(holding, x=holding.x[chosen], y=holding.y[chosen]))
        else:
            raise TypeError(f"{type(holding).__name__} cannot be told apart by class")
    return found


def shortened(
    federation: Federation, row: Tensor, new: Tensor, judges: Sequence[Holding], goal: Goal
) -> tuple[Tensor, np.ndarray]:
    """(a model [D] on the way from ``row`` to ``new``, its losses), not far beyond the aim.

    The server halves its step until the classes that were ascended on have a mean loss within
    ``OVERSHOOT`` of their aims.
    """
    low = goal.low(mean_losses(federation, row, judges))
    most = OVERSHOOT * goal.mean(np.where(low, goal.aim, 0.0))
    losses = mean_losses(federation, new, judges)
    for _ in range(_HALVINGS):
        if goal.mean(np.where(low, losses, 0.0)) <= most:
            break
        new = row + (new - row) / 2
        losses = mean_losses(federation, new, judges)
    return new, losses


def _losses(
    federation: Federation, row: Tensor, x: Tensor, y: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    federation.ledger.now.sample_checks += len(y)
    found = F.cross_entropy(federation.network.logits(row, x), y, reduction="none")
    labels, losses = y.cpu().numpy(), found.double().cpu().numpy()
    classes = federation.classes
    return np.bincount(labels, losses, classes), np.bincount(labels, minlength=classes)
