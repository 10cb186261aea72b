"""Local work as the run's training had it: its steps or epochs, its rates, its rule, its batches.

What published methods call "the clients train" is done with the settings of the run that is to
forget, so that none of them is handicapped by steps that the run never took. Terms that an
algorithm adds to the clients' gradients (FedProx, SCAFFOLD) are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.lazy import torch
from hansa.engine import Ask, Trainer
from hansa.engine.training.optimizers import clip_norm_
from hansa.forget.federation import Asking, Federation
from hansa.forget.holdings import Real
from hansa.forget.orders import Answer, Form, order
from hansa.forget.party import Party
from hansa.forget.portions import Held, Portion
from hansa.forget.run_plan import RunPlan

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class OriginalTraining:
    """What the clients of a run do in a round of its training, on what a request leaves them."""

    federation: Federation

    def masses(self, held: Sequence[Held]) -> list[float]:
        """What each client counts in an average: its examples, or 1 with weighting: uniform."""
        alike = uniform(self.federation.plan)
        return [1.0 if alike else one.mass for one in held]

    def server(self, row: Tensor) -> Callable[[Tensor, Tensor], None]:
        """The server's step, from its beginning: moves a model [D] in place by an update [P].

        Of a run whose algorithm has no such rule it adds the update.
        """
        size = self.federation.network.size
        rule = getattr(self.federation.plan.algorithm, "server", None)
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
        self, row: Tensor, held: Sequence[Held], t: int, share: float = 1.0
    ) -> Asking[list[Tensor]]:
        """Each client's model [D] after the local steps of round ``t`` from one model [D].

        A round that is over draws the batches that it drew then; one after the last draws new
        ones, at the last rate.
        """
        train = self.federation.plan.train
        # An earlier request may have left somebody less than a batch: then they use what there is.
        whole = train.drop_last and min(one.mass for one in held) >= train.batch_size
        answers = yield from self.federation.each(
            "train", held, row=row, round=t, share=share, drop_last=whole
        )
        return [self.federation.tensor(answer["row"]) for answer in answers]

    def another_round(self, row: Tensor, held: Sequence[Held]) -> Asking[list[Tensor]]:
        """Each client's model [D] after the local steps of one more round than the run had."""
        federation = self.federation
        t = federation.rounds * federation.number + federation.ledger.turn
        return (yield from self.train(row, held, t))


def uniform(plan: RunPlan) -> bool:
    """Whether the clients of a run count alike in its averages."""
    return getattr(plan.algorithm, "weighting", "examples") == "uniform"


def local_steps(plan: RunPlan, client: int, examples: int, t: int, share: float = 1.0) -> int:
    """Local steps of a client in round ``t``, or a share of them, but one at least."""
    sizes, train = np.array([examples], dtype=np.int64), plan.train
    asked = train.asked(sizes)
    if not train.budget.timed:  # a budget of time is nothing that clients have here
        ids = np.array([client], dtype=np.int64)
        asked = train.budget.steps(Ask(ids, sizes, asked, train.batching, plan.streams, t))
    return max(1, round(share * int(asked[0])))


@order("train", row=Form(("D",)))
def _train(
    party: Party,
    portion: dict[str, Any],
    row: np.ndarray,
    round: int,
    share: float,
    drop_last: bool,
) -> Answer:
    """The local steps of a round of training, or a share of them."""
    holding = party.holding(Portion.parse(portion))
    assert isinstance(holding, Real)  # the server asks those who hold some
    steps = local_steps(party.plan, party.client, len(holding.index), round, share)
    work = _by_class if hasattr(party.plan.algorithm, "condensation") else _plain
    return {"row": work(party, party.to_device(row), holding, steps, round, drop_last)}


def _by_class(
    party: Party, row: Tensor, holding: Real, steps: int, t: int, drop_last: bool
) -> Tensor:
    """As QuickDrop trains: each step on a batch of every class."""
    plan, train = party.plan, party.plan.train
    own, size = row.clone(), party.network.size
    trained = own[:size].unsqueeze(0)
    slots = {name: torch.zeros_like(trained) for name in train.optimizer.slots}
    count = torch.zeros(1, dtype=torch.int64, device=row.device)
    random = plan.streams.own.numpy("quickdrop.batches", party.client, t)
    alike = getattr(plan.algorithm, "class_weights", "examples") == "sum"
    for x, y, weight in holding.draws(random, steps):
        if alike:
            weight = 1 / y.bincount()[y]
        grad, _ = party.network.gradient(own, x, y, weight)
        party.gradients += len(y)
        some = grad.unsqueeze(0)
        if train.clip_norm is not None:
            clip_norm_(some, train.clip_norm)
        count += 1
        train.optimizer.step_(trained, some, slots, count, plan.rate(t))
    return own


def _plain(party: Party, row: Tensor, holding: Real, steps: int, t: int, drop_last: bool) -> Tensor:
    """As the engine trains, whatever its batches, augmentations and rule."""
    block, plan = party.block, party.plan
    crew = block.visit(block.positions(np.array([party.client])), row.unsqueeze(0).clone())
    crew.parts = [holding.index]
    settings = plan.train.model_copy(update={"drop_last": drop_last})
    assert isinstance(block.trainer, Trainer)
    trainer = block.trainer.like(settings, plan.rounds)
    trainer.train(crew, min(t, plan.done - 1), steps=np.array([steps]), draw=t)
    party.gradients += int(crew.state["samples"].sum())
    return crew.rows[0]
