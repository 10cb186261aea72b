"""The server of a trained run, and what it may ask of the clients in a request to forget.

What takes place at the server is a sequential program, written as a generator: where it needs the
clients it yields an :class:`Order` and is resumed with what they answered. It never looks at their
examples or images. A round is what each client does alone from the server's model, and a weighted
average of their models.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from hansa.base.lazy import torch
from hansa.forget.classifier import Classifier
from hansa.forget.ledger import Ledger
from hansa.forget.orders import Answer, Answered, Order
from hansa.forget.portions import Held, Portion, StandIn
from hansa.forget.request import Request
from hansa.forget.run_plan import RunPlan

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
Asking: TypeAlias = Generator[Order, Answered, T]
"""A part of a server's program: what it yields is done by the clients."""


@dataclass
class Federation:
    """What a method of forgetting may use at the server.

    Attributes:
        plan: what all know of the run.
        row: float32 [D], the run's model as it is now; methods do not change it.
        request: what is to be forgotten now.
        past: what was forgotten before, and must not be used again.
        updates: float32 [slots, clients, P], what clients sent in every so many rounds of training,
            0 for those that were not asked; None if the run kept none.
        updates_every: how many rounds lie between two of them.
        number: which request of the run it is; it names the random streams.
        given: float32 [D], the model that an exact method has come to before; None if it has not.
        oracle: float32 [D], the model that was trained without what is to go; None if there is
            none.
        ledger: what was done, to be added to.
    """

    plan: RunPlan
    row: Tensor
    request: Request
    past: Request = field(default_factory=Request)
    updates: Tensor | None = None
    updates_every: int = 0
    number: int = 1
    given: Tensor | None = None
    oracle: Tensor | None = None
    ledger: Ledger = field(default_factory=Ledger)
    _held: dict[Portion, list[Held]] = field(default_factory=dict, repr=False)

    @cached_property
    def network(self) -> Classifier:
        """The model."""
        return Classifier(self.plan.module)

    @property
    def classes(self) -> int:
        """K, how many classes there are."""
        return self.plan.classes

    @property
    def chance(self) -> float:
        """The cross-entropy of somebody who knows nothing: log K."""
        return math.log(self.classes)

    @property
    def clients(self) -> range:
        """Ids of those who have data."""
        return range(self.plan.clients)

    @property
    def rounds(self) -> int:
        """How many rounds of training the run did."""
        return self.plan.done

    # -- orders

    def ask(self, name: str, clients: Iterable[int], **asked: Any) -> Asking[dict[int, Answer]]:
        """What some clients answer to an order, by client, ascending; its costs are counted.

        Args:
            asked: plain data, arrays and tensors, the same for all of them.

        Raises:
            WireError: an answer is none to this order.
        """
        who = tuple(sorted(clients))
        if not who:
            return {}
        order = Order(name, who, self.ledger.turn, asked)
        answered = yield order
        order.check(answered.answers, {"D": len(self.row), "C": self.classes})
        cost = self.ledger.now
        cost.bytes += answered.traffic
        cost.sample_gradients += answered.gradients
        cost.sample_checks += answered.checks
        return answered.answers

    def each(self, name: str, held: Sequence[Held], **asked: Any) -> Asking[list[Answer]]:
        """What clients answer to an order on what they hold, in the order of ``held``."""
        answers: list[Answer] = [{} for _ in held]
        for portion in dict.fromkeys(one.portion for one in held):
            at = {one.client: k for k, one in enumerate(held) if one.portion == portion}
            said = yield from self.ask(name, at, portion=portion.dump(), **asked)
            for client, answer in said.items():
                answers[at[client]] = answer
        return answers

    # -- whose data

    def held(self, portion: Portion) -> Asking[list[Held]]:
        """Who holds some of a portion, and how much; asked once."""
        if portion not in self._held:
            with self.ledger.phase("survey"):
                said = yield from self.ask("held", self.clients, portion=portion.dump())
            self._held[portion] = [
                Held(client, portion, answer["mass"], np.asarray(answer["counts"]))
                for client, answer in said.items()
                if answer["mass"]
            ]
        return list(self._held[portion])

    def portion(self, forget: bool, **how: Any) -> Portion:
        """What is to be forgotten now, or what remains."""
        return Portion(forget, self.request, self.past, **how)

    def real(self, forget: bool) -> Asking[list[Held]]:
        """The real examples that are to be forgotten, or those that remain."""
        return (yield from self.held(self.portion(forget)))

    def synthetic(
        self, forget: bool, stand_in: StandIn = "none", share: float = 0.0
    ) -> Asking[list[Held]]:
        """The synthetic images of what is to be forgotten, or of what remains.

        Args:
            share: of real examples of what remains that are drawn beside them.
        """
        how = {"source": "synthetic", "stand_in": stand_in, "share": share}
        return (yield from self.held(self.portion(forget, **how)))

    def sampled(self, count: int) -> Asking[list[Held]]:
        """Some ``count`` real examples a step of what remains, from each client by its size."""
        real = yield from self.real(forget=False)
        drawn = (count, int(sum(one.mass for one in real)))
        return [replace(one, portion=replace(one.portion, drawn=drawn)) for one in real]

    # -- work

    def loss(self, row: Tensor, held: Sequence[Held]) -> Asking[float]:
        """Mean cross-entropy of a row on what clients hold, as they weigh in an average."""
        total = mass = 0.0
        answers = yield from self.each("loss", held, row=row)
        for one, answer in zip(held, answers, strict=True):
            total += one.mass * answer["loss"]
            mass += one.mass
        return total / mass

    def average(self, models: Sequence[Tensor], masses: Sequence[float]) -> Tensor:
        """The weighted mean of models [D], and the end of a round that sent them."""
        total = sum(masses)
        mean = torch.zeros_like(models[0], dtype=torch.float64)
        for model, mass in zip(models, masses, strict=True):
            mean += model.double() * (mass / total)
        self.ledger.now.rounds += 1
        self.ledger.turn += 1
        return mean.float()

    def round(
        self,
        row: Tensor,
        held: Sequence[Held],
        steps: int,
        lr: float,
        ascend: bool = False,
        term: str = "",
        weight_decay: float = 0.0,
    ) -> Asking[Tensor]:
        """A round of federated averaging from a row: those who hold nothing have no vote.

        Args:
            term: the name of what clients add to their gradients, which they were told before.
        """
        answers = yield from self.each(
            "steps", held, row=row, steps=steps, lr=lr, ascend=ascend, term=term,
            weight_decay=weight_decay,
        )  # fmt: skip
        return self.average([self.tensor(a["row"]) for a in answers], [one.mass for one in held])

    def tensor(self, array: np.ndarray) -> Tensor:
        """An array of an answer, where the model is."""
        return torch.from_numpy(array).to(self.row.device)

    # -- requests

    def by_level(self) -> list[Federation]:
        """The same clients and ledger with the request's classes, clients and samples alone."""
        whole, levels = self.request, []
        for name in ("classes", "clients", "samples"):
            if items := getattr(whole, name):
                part = Request(**{name: items})
                levels.append(replace(self, request=part))
        return levels

    def relabelled(self, request: Request, past: Request) -> Federation:
        """The same clients with another request, its costs counted anew."""
        return replace(self, request=request, past=past, ledger=Ledger())
