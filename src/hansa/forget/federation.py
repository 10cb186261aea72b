"""The clients and the server of a trained run, and the rounds in which they forget.

All of it runs in one process: a round is what each client does alone from the server's model, and
a weighted average of their models, whatever runtime the run was trained in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from hansa.base.lazy import torch
from hansa.engine import Block, Job
from hansa.ensemble.synthetic import SyntheticLayout
from hansa.forget.classifier import Classifier
from hansa.forget.holdings import Holding, Mixed, Real, Sampled, Synthetic
from hansa.forget.ledger import Ledger
from hansa.forget.request import Request

if TYPE_CHECKING:
    from torch import Tensor

Hook: TypeAlias = "Callable[[torch.Tensor, torch.Tensor], None]"
"""Changes a gradient [P] before a step, given the row [D]; in place."""


@dataclass
class Federation:
    """What a method of forgetting may use.

    Attributes:
        job: the run, with all clients' data as they were dealt.
        row: float32 [D], the run's model as it is now; methods do not change it.
        layout: where clients' synthetic images lie; None if the run made none.
        images: a client's row of them, for those that have some.
        request: what is to be forgotten now.
        past: what was forgotten before, and must not be used again.
        updates: float32 [slots, clients, P], what clients sent in every so many rounds of training,
            0 for those that were not asked; None if the run kept none.
        updates_every: how many rounds lie between two of them.
        done: rounds of training that the run did; None: all that were planned.
        number: which request of the run it is; it names the random streams.
        ledger: what was done, to be added to.
        trained: all nodes as they are now, for methods that change more than one model; they do
            not change it.
        nodes: all nodes as such a method has left them.
    """

    job: Job
    row: Tensor
    layout: SyntheticLayout | None
    images: dict[int, Tensor]
    request: Request
    past: Request = field(default_factory=Request)
    updates: Tensor | None = None
    updates_every: int = 0
    done: int | None = None
    number: int = 1
    ledger: Ledger = field(default_factory=Ledger)
    trained: Block | None = None
    nodes: Block | None = None

    @cached_property
    def network(self) -> Classifier:
        """The model."""
        return Classifier(self.job.module)

    @property
    def classes(self) -> int:
        """K, how many classes there are."""
        return self.job.dataset.spec.classes

    @property
    def chance(self) -> float:
        """The cross-entropy of somebody who knows nothing: log K."""
        return math.log(self.classes)

    @property
    def clients(self) -> range:
        """Ids of those who have data."""
        return range(len(self.job.parts))

    @property
    def rounds(self) -> int:
        """How many rounds of training the run did."""
        return self.job.rounds if self.done is None else self.done

    @property
    def batch_size(self) -> int:
        """Real examples of a class in a step."""
        return self.job.train.batch_size

    # -- whose data

    def _index(self, client: int, wanted: Request, unwanted: Request) -> np.ndarray:
        part = np.asarray(self.job.parts[client])
        labels = self.job.dataset.train.targets.cpu().numpy()[part]
        meant = wanted.covers(client, part, labels) if wanted else np.ones(len(part), dtype=bool)
        return part[meant & ~unwanted.covers(client, part, labels)]

    def remaining(
        self, groups: Sequence[np.ndarray], without: Request | None = None
    ) -> list[np.ndarray]:
        """The clients' examples, an index array each, less what requests cover.

        Args:
            without: the requests; by default the present one and those before.
        """
        gone = self._gone if without is None else without
        labels, kept = self.job.dataset.train.targets.cpu().numpy(), []
        for client, group in enumerate(groups):
            index = np.asarray(group)
            kept.append(index[~gone.covers(client, index, labels[index])])
        return kept

    def real(self, forget: bool) -> list[Real]:
        """The real examples that are to be forgotten, or those that remain."""
        wanted, unwanted = (self.request, self.past) if forget else (Request(), self._gone)
        examples = [(c, self._index(c, wanted, unwanted)) for c in self.clients]
        dataset, size = self.job.dataset, self.batch_size
        return [Real(c, dataset, index, size) for c, index in examples if len(index)]

    def synthetic(self, forget: bool) -> list[Synthetic]:
        """The synthetic images of what is to be forgotten, or of what remains."""
        assert self.layout is not None  # the method's check saw to it
        images = []
        for client, row in sorted(self.images.items()):
            x, y = self.layout.images(row, client), self.layout.labels(client)
            labels = y.tolist()
            gone = torch.tensor([self.past.covers_cell(client, c) for c in labels])
            meant = torch.tensor([self.request.covers_cell(client, c) for c in labels])
            chosen = (meant if forget else ~meant) & ~gone
            if chosen.any():
                images.append(Synthetic(client, x[chosen], y[chosen].to(x.device)))
        return images

    def mixed(self, images: Sequence[Synthetic], share: float) -> list[Holding]:
        """Clients' synthetic images with a share of real examples of what remains."""
        if not share:
            return list(images)
        real = {holding.client: holding for holding in self.real(forget=False)}
        return [Mixed(s, real[s.client], share) if s.client in real else s for s in images]

    def sampled(self, count: int) -> list[Holding]:
        """Some ``count`` real examples a step of what remains, from each client by its size."""
        real = self.real(forget=False)
        total = sum(len(holding.index) for holding in real)
        shares = [max(1, round(count * len(holding.index) / total)) for holding in real]
        return [
            Sampled(h.client, h.dataset, h.index, share)
            for h, share in zip(real, shares, strict=True)
        ]

    @property
    def _gone(self) -> Request:
        return self.request | self.past

    # -- work

    def random(self, client: int) -> np.random.Generator:
        """A client's stream in the round that is going on."""
        purpose = f"forget.{self.number}"
        return self.job.streams.numpy(purpose, client, self.ledger.turn)

    def loss(self, row: Tensor, holdings: Sequence[Holding]) -> float:
        """Mean cross-entropy of a row on what clients hold, as they weigh in an average."""
        total = mass = 0.0
        for holding in holdings:
            x, y, weight = holding.draw(self.random(holding.client))
            losses = torch.nn.functional.cross_entropy(
                self.network.logits(row, x), y, reduction="none"
            )
            self.ledger.now.sample_checks += len(y)
            total += holding.mass * float((losses * weight).sum())
            mass += holding.mass
        self.ledger.now.bytes += len(holdings) * (row.numel() * row.element_size() + 8)
        return total / mass

    def local(
        self,
        row: Tensor,
        holding: Holding,
        steps: int,
        lr: float,
        ascend: bool = False,
        hook: Hook | None = None,
        weight_decay: float = 0.0,
        random: np.random.Generator | None = None,
    ) -> Tensor:
        """A client's model [D] after steps of gradient descent, or of true ascent, from a row.

        Ascent adds lr times the gradient: weight decay, which pulls down, has no part in it.
        """
        own, size = row.clone(), self.network.size
        drawn = holding.draws(random or self.random(holding.client), steps)
        for x, y, weight in drawn:
            grad, _ = self.network.gradient(own, x, y, weight)
            self.ledger.now.sample_gradients += len(y)
            if ascend:
                grad.neg_()
            elif weight_decay:
                grad.add_(own[:size], alpha=weight_decay)
            if hook is not None:
                hook(grad, own)
            own[:size].add_(grad, alpha=-lr)
        return own

    def average(self, models: Sequence[Tensor], masses: Sequence[float]) -> Tensor:
        """The weighted mean of models [D], and the end of a round that sent them."""
        total = sum(masses)
        mean = torch.zeros_like(models[0], dtype=torch.float64)
        for model, mass in zip(models, masses, strict=True):
            mean += model.double() * (mass / total)
        self.ledger.now.rounds += 1
        self.ledger.now.bytes += 2 * len(models) * models[0].numel() * models[0].element_size()
        self.ledger.turn += 1
        return mean.float()

    def round(
        self,
        row: Tensor,
        holdings: Sequence[Holding],
        steps: int,
        lr: float,
        ascend: bool = False,
        hook: Hook | None = None,
        weight_decay: float = 0.0,
    ) -> Tensor:
        """A round of federated averaging from a row: those who hold nothing have no vote."""
        models = [self.local(row, h, steps, lr, ascend, hook, weight_decay) for h in holdings]
        return self.average(models, [h.mass for h in holdings])

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
        return replace(self, request=request, past=past, ledger=Ledger(), nodes=None)
