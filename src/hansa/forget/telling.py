"""What those who hold the data tell the server of a model: losses and hits, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import functional as F
from hansa.base.lazy import torch
from hansa.forget.federation import Federation
from hansa.forget.holdings import Holding, Real, Synthetic

if TYPE_CHECKING:
    from torch import Tensor

_NUMBERS = 24
"""Bytes that a holder sends for each class: a sum of losses, hits and a count."""


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


def tell(federation: Federation, row: Tensor, holdings: Sequence[Holding]) -> Told:
    """Ask clients how a model [D] does on what they hold: on all real examples, not on a batch.

    Each gets the model and sends three numbers a class, which is counted, though a client that
    takes part in the next round needs the model anyhow.
    """
    classes = federation.classes
    answers = Told(*(np.zeros(classes, kind) for kind in (np.float64, np.int64, np.int64)))
    for holding in holdings:
        answers += told(federation, row, *_examples(federation, holding))
    cost = federation.ledger.now
    cost.bytes += len(holdings) * (row.numel() * row.element_size() + _NUMBERS * classes)
    return answers


def told(federation: Federation, row: Tensor, x: Tensor, y: Tensor) -> Told:
    """The same of some examples [m, ...] with their classes [m]."""
    federation.ledger.now.sample_checks += len(y)
    scores = federation.network.logits(row, x)
    losses = F.cross_entropy(scores, y, reduction="none").double().cpu().numpy()
    labels, hits = y.cpu().numpy(), (scores.argmax(1) == y).cpu().numpy()
    classes = federation.classes
    return Told(
        np.bincount(labels, losses, classes),
        np.bincount(labels[hits], minlength=classes),
        np.bincount(labels, minlength=classes),
    )


def only(holdings: Sequence[Holding], classes: np.ndarray) -> list[Holding]:
    """What clients hold of some classes, bool [C]."""
    parts: list[Holding] = []
    for holding in holdings:
        if isinstance(holding, Real):
            labels = holding.dataset.train.targets.cpu().numpy()[holding.index]
            if (kept := classes[labels]).any():
                parts.append(replace(holding, index=holding.index[kept]))
        elif isinstance(holding, Synthetic):
            chosen = torch.from_numpy(classes).to(holding.y.device)[holding.y]
            if chosen.any():
                parts.append(replace(holding, x=holding.x[chosen], y=holding.y[chosen]))
        else:
            raise TypeError(f"{type(holding).__name__} cannot be told apart by class")
    return parts


def _examples(federation: Federation, holding: Holding) -> tuple[Tensor, Tensor]:
    if isinstance(holding, Real):  # all of them: a goal is no matter of a lucky batch
        train = holding.dataset.train
        index = torch.from_numpy(holding.index).to(train.targets.device)
        return holding.dataset.gather(train, index)
    x, y, _ = holding.draw(federation.random(holding.client))
    return x, y
