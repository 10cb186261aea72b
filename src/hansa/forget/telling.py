"""What those who hold the data tell the server of a model: losses and hits, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.lazy import functional as F
from hansa.base.lazy import torch
from hansa.forget.classifier import Classifier
from hansa.forget.federation import Asking, Federation
from hansa.forget.holdings import Holding, Real
from hansa.forget.orders import Answer, Form, order
from hansa.forget.party import Party
from hansa.forget.portions import Held, Portion

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Told:
    """How a model does on what some clients hold.

    Attributes:
        sums: float64 [C], cross-entropies of the examples of each class, added up.
        hits: int64 [C], examples that get their own class.
        counts: int64 [C], examples.
    """

    sums: np.ndarray
    hits: np.ndarray
    counts: np.ndarray

    @property
    def losses(self) -> np.ndarray:
        """Mean cross-entropy of each class [C], 0 where nobody holds any."""
        return self.sums / np.maximum(self.counts, 1)

    @property
    def right(self) -> np.ndarray:
        """Share of each class [C] that gets its own class, 0 where nobody holds any."""
        return self.hits / np.maximum(self.counts, 1)

    @property
    def finite(self) -> bool:
        """Whether the model gives numbers at all."""
        return bool(np.isfinite(self.sums).all())

    def __add__(self, other: Told) -> Told:
        """Of both."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Told(*(a + b for a, b in pairs))


def tell(federation: Federation, row: Tensor, held: Sequence[Held]) -> Asking[Told]:
    """Ask clients how a model [D] does on what they hold: on all real examples, not on a batch.

    Each gets the model and sends three numbers a class, which is counted, though a client that
    takes part in the next round needs the model anyhow.
    """
    classes = federation.classes
    whole = Told(*(np.zeros(classes, kind) for kind in (np.float64, np.int64, np.int64)))
    for answer in (yield from federation.each("tell", held, row=row)):
        whole += Told(**{name: np.asarray(answer[name]) for name in vars(whole)})
    return whole


_COUNTS = Form(("C",), mass=True)


@order("tell", sums=Form(("C",)), hits=_COUNTS, counts=_COUNTS)
def _tell(party: Party, portion: dict[str, Any], row: np.ndarray) -> Answer:
    """Of all that a client holds of a portion."""
    holding = party.holding(Portion.parse(portion))
    assert holding is not None  # the server asks those who hold some
    x, y = _examples(party, holding)
    party.checks += len(y)
    return dict(vars(told(party.network, party.to_device(row), x, y, party.plan.classes)))


def told(network: Classifier, row: Tensor, x: Tensor, y: Tensor, classes: int) -> Told:
    """The same of some examples [m, ...] with their classes [m]."""
    scores = network.logits(row, x)
    losses = F.cross_entropy(scores, y, reduction="none").double().cpu().numpy()
    labels, hits = y.cpu().numpy(), (scores.argmax(1) == y).cpu().numpy()
    return Told(
        np.bincount(labels, losses, classes),
        np.bincount(labels[hits], minlength=classes),
        np.bincount(labels, minlength=classes),
    )


def only(held: Sequence[Held], classes: np.ndarray) -> list[Held]:
    """What clients hold of some classes, bool [C].

    Raises:
        TypeError: what they hold cannot be told apart by class.
    """
    some, parts = tuple(np.flatnonzero(classes).tolist()), []
    for one in held:
        portion = one.portion
        if portion.share or portion.drawn is not None:
            raise TypeError(f"{portion} cannot be told apart by class")
        counts = np.where(classes, one.counts, 0)
        if counts.any():
            part = replace(portion, classes=some)
            parts.append(Held(one.client, part, float(counts.sum()), counts))
    return parts


def _examples(party: Party, holding: Holding) -> tuple[Tensor, Tensor]:
    if isinstance(holding, Real):  # all of them: a goal is no matter of a lucky batch
        train = holding.dataset.train
        index = torch.from_numpy(holding.index).to(train.targets.device)
        return holding.dataset.gather(train, index)
    x, y, _ = holding.draw(party.random())
    return x, y
