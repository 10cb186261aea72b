"""Local work as the run's training had it: its steps or epochs, its rates, its rule, its batches.

What published methods call "the clients train" is done with the settings of the run that is to
forget, so that none of them is handicapped by steps that the run never took. Terms that an
algorithm adds to the clients' gradients (FedProx, SCAFFOLD) are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.engine import Ask
from hansa.engine.training.optimizers import clip_norm_
from hansa.forget.federation import Federation
from hansa.forget.holdings import Real

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class OriginalTraining:
    """What the clients of a run do in a round of its training, on what a request leaves them."""

    federation: Federation

    def rate(self, t: int) -> float:
        """The learning rate of round ``t`` by the run's schedule; beyond its end, the last one."""
        job, last = self.federation.job, self.federation.rounds - 1
        return job.train.optimizer.lr * job.train.schedule.factor(min(t, last), job.rounds)

    def growth(self, t: int, later: int) -> float:
        """By what factor an update of round ``later`` is longer than one of ``t``, by the rate."""
        now = self.rate(t)
        return self.rate(later) / now if now else 1.0

    def steps(self, holdings: Sequence[Real], t: int, share: float = 1.0) -> list[int]:
        """Local steps of each client in round ``t``, or a share of them, but one at least."""
        job = self.federation.job
        sizes = np.array([len(holding.index) for holding in holdings], dtype=np.int64)
        ids = np.array([holding.client for holding in holdings], dtype=np.int64)
        asked, train = job.train.asked(sizes), job.train
        if not train.budget.timed:  # a budget of time is nothing that clients have here
            asked = train.budget.steps(Ask(ids, sizes, asked, train.batching, job.streams, t))
        return [max(1, round(share * steps)) for steps in asked.tolist()]

    def masses(self, holdings: Sequence[Real]) -> list[float]:
        """What each client counts in an average: its examples, or 1 with weighting: uniform."""
        alike = getattr(self.federation.job.algorithm, "weighting", "examples") == "uniform"
        return [1.0 if alike else holding.mass for holding in holdings]

    def server(self, row: Tensor) -> Callable[[Tensor, Tensor], None]:
        """The server's step, from its beginning: moves a model [D] in place by an update [P].

        Of a run whose algorithm has no such rule it adds the update.
        """
        size = self.federation.network.size
        rule = getattr(self.federation.job.algorithm, "server", None)
        slots = {} if rule is None else {
            name: torch.full_like(row[:size], value) for name, value in rule.slots.items()
        }  # fmt: skip

        def step(model: Tensor, update: Tensor) -> None:
            if rule is None:
                model[:size] += update
            else:
                rule.step_(model[:size], update.clone(), slots)

        return step

    def train(
        self, row: Tensor, holdings: Sequence[Real], t: int, share: float = 1.0
    ) -> list[Tensor]:
        """Each client's model [D] after the local steps of round ``t`` from one model [D].

        A round that is over draws the batches that it drew then; one after the last draws new
        ones, at the last rate.
        """
        steps = self.steps(holdings, t, share)
        if hasattr(self.federation.job.algorithm, "condensation"):
            pairs = zip(holdings, steps, strict=True)
            return [self._by_class(row, holding, count, t) for holding, count in pairs]
        return self._plain(row, holdings, steps, t)

    def another_round(self, row: Tensor, holdings: Sequence[Real]) -> list[Tensor]:
        """Each client's model [D] after the local steps of one more round than the run had."""
        federation = self.federation
        t = federation.rounds * federation.number + federation.ledger.turn
        return self.train(row, holdings, t)

    def _by_class(self, row: Tensor, holding: Real, steps: int, t: int) -> Tensor:
        """As QuickDrop trains: each step on a batch of every class."""
        federation, train = self.federation, self.federation.job.train
        own, size = row.clone(), federation.network.size
        trained = own[:size].unsqueeze(0)
        slots = {name: torch.zeros_like(trained) for name in train.optimizer.slots}
        count = torch.zeros(1, dtype=torch.int64, device=row.device)
        random = federation.job.streams.numpy("quickdrop.batches", holding.client, t)
        alike = getattr(federation.job.algorithm, "class_weights", "examples") == "sum"
        for x, y, weight in holding.draws(random, steps):
            if alike:
                weight = 1 / y.bincount()[y]
            grad, _ = federation.network.gradient(own, x, y, weight)
            federation.ledger.now.sample_gradients += len(y)
            some = grad.unsqueeze(0)
            if train.clip_norm is not None:
                clip_norm_(some, train.clip_norm)
            count += 1
            train.optimizer.step_(trained, some, slots, count, self.rate(t))
        return own

    def _plain(
        self, row: Tensor, holdings: Sequence[Real], steps: list[int], t: int
    ) -> list[Tensor]:
        """As the engine trains, whatever its batches, augmentations and rule."""
        federation, job = self.federation, self.federation.job
        fewest = min(len(holding.index) for holding in holdings)
        if job.train.drop_last and fewest < job.train.batch_size:
            # An earlier request has left somebody less than a batch: use what there is.
            job = replace(job, train=job.train.model_copy(update={"drop_last": False}))
        block = federation.trained or job.block(np.arange(job.nodes))
        who = np.array([holding.client for holding in holdings])
        crew = block.visit(who, row.repeat(len(who), 1))
        crew.parts = [holding.index for holding in holdings]
        trainer = job.trainer()
        try:
            trainer.train(crew, min(t, federation.rounds - 1), steps=np.array(steps), draw=t)
        finally:
            trainer.close()
        federation.ledger.now.sample_gradients += int(crew.state["samples"].sum())
        return list(crew.rows)
