"""A client that serves orders: what it holds, and the local work that it does with that.

Only here are a client's examples and images looked at, in the worker that has them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from hansa.base.lazy import torch
from hansa.data import Dataset
from hansa.engine import Block
from hansa.engine.shelf import Shelf
from hansa.ensemble.condensation import Condensation
from hansa.ensemble.synthetic import SHELF, SyntheticLayout
from hansa.forget.classifier import Classifier
from hansa.forget.holdings import Holding, Mixed, Real, Sampled, Synthetic
from hansa.forget.orders import Answer, Form, order
from hansa.forget.portions import Portion
from hansa.forget.request import Request
from hansa.forget.run_plan import RunPlan
from hansa.forget.stand_ins import noise, random_real

if TYPE_CHECKING:
    from torch import Tensor

Hook: TypeAlias = "Callable[[torch.Tensor, torch.Tensor], None]"
"""Changes a gradient [P] before a step, given the row [D]; in place."""


class Party:
    """One client within its block.

    Args:
        block: the nodes of a trained run that live here.
        client: one of them.
        network: the model, shared with the others of the block.
        number: which request of the run is served; it names the random streams.

    Attributes:
        turn: the order's, which names the streams as well.
        gradients, checks: examples of this order whose gradient or loss was computed.
        terms: what it has been told to add to its gradients, by name.
    """

    def __init__(
        self, block: Block, client: int, plan: RunPlan, network: Classifier, number: int
    ) -> None:
        self.block, self.client, self.plan, self.network = block, client, plan, network
        self.number, self.turn = number, 0
        self.gradients = self.checks = 0
        self.terms: dict[str, Hook] = {}
        self._holdings: dict[Portion, Holding | None] = {}
        self._at = int(block.positions(np.array([client]))[0])

    @property
    def dataset(self) -> Dataset:
        """Where its examples are."""
        return self.plan.dataset

    @property
    def index(self) -> np.ndarray:
        """int64 [m], where its own training examples stand in the training set."""
        return np.asarray(self.block.parts[self._at])

    @property
    def numbers(self) -> np.ndarray:
        """int64 [m], what these examples are called in requests."""
        numbers = self.block.numbers
        return self.index if numbers is None else numbers[self.index]

    @property
    def labels(self) -> np.ndarray:
        """int64 [m], their classes."""
        targets = self.dataset.train.targets
        return targets[self.to_device(self.index)].cpu().numpy()

    def to_device(self, array: np.ndarray) -> Tensor:
        """A copy of an array that an order has brought, or of an index, where the model is."""
        return torch.from_numpy(array.copy()).to(self.block.trainer.device)

    def random(self) -> np.random.Generator:
        """Its stream in this turn."""
        return self.plan.streams.own.numpy(f"forget.{self.number}", self.client, self.turn)

    # -- what it holds

    def stored(self, shelf: str) -> Tensor | None:
        """A copy of its row on a shelf of its block; None if it has none there."""
        if shelf not in self.block.shelves or self.client not in self.block.shelves[shelf]:
            return None
        return self.block.shelves[shelf].row(self.client)

    def store(self, shelf: str, row: Tensor | None) -> None:
        """Put another row on a shelf; None: have none there any more."""
        place = self.block.shelves.setdefault(shelf, Shelf())
        if row is None:
            place.drop(np.array([self.client]))
        else:
            place.put(np.array([self.client]), row.unsqueeze(0))
        self._holdings.clear()

    @cached_property
    def layout(self) -> SyntheticLayout | None:
        """Where its own synthetic images lie; None where the run makes none."""
        how = getattr(self.plan.algorithm, "condensation", None)
        if not isinstance(how, Condensation):
            return None
        counts = np.zeros((self.plan.clients, self.plan.classes), dtype=np.int64)
        counts[self.client] = np.bincount(self.labels, minlength=self.plan.classes)
        return SyntheticLayout.of(counts, how.scale, self.dataset.spec.shape)

    def holding(self, portion: Portion) -> Holding | None:
        """What it has of a portion; None if that is nothing."""
        if portion not in self._holdings:
            self._holdings[portion] = self._find(portion)
        return self._holdings[portion]

    def _find(self, portion: Portion) -> Holding | None:
        if portion.source == "synthetic":
            return self._mixed(portion)
        real = self._real(portion)
        if real is None or portion.drawn is None:
            return real
        count, total = portion.drawn
        share = max(1, round(count * len(real.index) / total))
        return Sampled(self.client, self.dataset, real.index, share)

    def _real(self, portion: Portion) -> Real | None:
        gone = portion.request | portion.past
        wanted, unwanted = (portion.request, portion.past) if portion.forget else (Request(), gone)
        part, labels = self.index, self.labels
        names = self.numbers
        meant = np.ones(len(part), dtype=bool)
        if wanted:
            meant = wanted.covers(self.client, names, labels)
        meant &= ~unwanted.covers(self.client, names, labels)
        if portion.classes is not None:
            meant &= np.isin(labels, portion.classes)
        if not meant.any():
            return None
        return Real(self.client, self.dataset, part[meant], self.plan.train.batch_size)

    def _synthetic(self, portion: Portion) -> Synthetic | None:
        row, layout = self.stored(SHELF), self.layout
        if row is None or layout is None:
            return None
        row = row.to(self.block.rows.device)
        x, y = layout.images(row, self.client), layout.labels(self.client)
        labels = y.tolist()
        gone = torch.tensor([portion.past.covers_cell(self.client, c) for c in labels])
        meant = torch.tensor([portion.request.covers_cell(self.client, c) for c in labels])
        chosen = (meant if portion.forget else ~meant) & ~gone
        if not chosen.any():
            return None
        images = Synthetic(self.client, x[chosen], y[chosen].to(x.device))
        if portion.stand_in == "noise":
            images = noise(self.plan.streams.own, images)
        elif portion.stand_in == "random_real":
            everything = Real(self.client, self.dataset, self.index, 0)
            images = random_real(self.plan.streams.own, everything, images)
        if portion.classes is None:
            return images
        some = torch.isin(images.y, torch.tensor(portion.classes, device=images.y.device))
        if not some.any():
            return None
        return Synthetic(self.client, images.x[some], images.y[some])

    def _mixed(self, portion: Portion) -> Holding | None:
        images = self._synthetic(portion)
        if images is None or not portion.share:
            return images
        remaining = Portion(False, portion.request, portion.past)
        real = self._real(remaining)
        return images if real is None else Mixed(images, real, portion.share)

    # -- what it does

    def descend(
        self,
        row: Tensor,
        holding: Holding,
        steps: int,
        lr: float,
        ascend: bool = False,
        hook: Hook | None = None,
        weight_decay: float = 0.0,
    ) -> Tensor:
        """Its model [D] after steps of gradient descent, or of true ascent, from a row.

        Ascent adds lr times the gradient: weight decay, which pulls down, has no part in it.
        """
        own, size = row.clone(), self.network.size
        for x, y, weight in holding.draws(self.random(), steps):
            grad, _ = self.network.gradient(own, x, y, weight)
            self.gradients += len(y)
            if ascend:
                grad.neg_()
            elif weight_decay:
                grad.add_(own[:size], alpha=weight_decay)
            if hook is not None:
                hook(grad, own)
            own[:size].add_(grad, alpha=-lr)
        return own


@order("held", mass=Form(mass=True), counts=Form(("C",), mass=True))
def held(party: Party, portion: dict[str, Any]) -> Answer:
    """How much it has of a portion."""
    holding = party.holding(Portion.parse(portion))
    if holding is None:
        return {"mass": 0.0, "counts": np.zeros(party.plan.classes, dtype=np.int64)}
    return {"mass": float(holding.mass), "counts": holding.counts(party.plan.classes)}


@order("steps", row=Form(("D",)))
def steps(
    party: Party,
    portion: dict[str, Any],
    row: np.ndarray,
    steps: int,
    lr: float,
    ascend: bool,
    weight_decay: float,
    term: str,
) -> Answer:
    """Local steps from a model [D]."""
    holding = party.holding(Portion.parse(portion))
    assert holding is not None  # the server asks those who hold some
    hook = party.terms[term] if term else None
    start = party.to_device(row)
    return {"row": party.descend(start, holding, steps, lr, ascend, hook, weight_decay)}


@order("loss", loss=Form())
def loss(party: Party, portion: dict[str, Any], row: np.ndarray) -> Answer:
    """The weighted mean cross-entropy of a model [D] on a batch of what it holds."""
    holding = party.holding(Portion.parse(portion))
    assert holding is not None  # the server asks those who hold some
    x, y, weight = holding.draw(party.random())
    losses = torch.nn.functional.cross_entropy(
        party.network.logits(party.to_device(row), x), y, reduction="none"
    )
    party.checks += len(y)
    return {"loss": float((losses * weight).sum())}
