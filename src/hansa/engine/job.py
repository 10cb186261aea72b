"""A run as a party has it: the plan that all know, and the examples that it holds itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.many import counter
from hansa.base.streams import Streams
from hansa.data import label_histogram
from hansa.data.dealing.deal import sizes_of
from hansa.engine import node_keys
from hansa.engine.accounts import Accounts, accounts_of
from hansa.engine.block import Block
from hansa.engine.exchange.attackers import TOGETHER
from hansa.engine.exchange.losses import COUNTERS
from hansa.engine.holding import Holding, Parts, public_part
from hansa.engine.plan import Plan
from hansa.engine.roster import Roster
from hansa.engine.training.trainer import Trainer
from hansa.engine.training.trial import Tried, try_out
from hansa.privacy.example import ExamplePrivacy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class Job(Plan):
    """A plan, with the examples of all clients or of those that live here.

    Whoever prepares a run holds everything, and so does a simulation; a worker or a site has
    :meth:`party`'s. There ``parts[i]`` and ``held[i]`` of somebody else raise ``NotHeld``.

    Attributes:
        parts: training examples of every client of the run, positions in ``dataset.train``.
        held: examples that the clients keep back to validate models, or nothing.
        joined: what all parties told; None: all of them are here.
        numbered: :attr:`numbers` where they are others than the positions.
    """

    parts: Sequence[np.ndarray]
    held: Sequence[np.ndarray] = ()
    joined: Roster | None = None
    numbered: np.ndarray | None = None

    # -- the plan and what is held

    @classmethod
    def of(cls, plan: Plan, holding: Holding) -> Job:
        """A party's job, which has to be given a roster before a block of it starts."""

        def group(index: Sequence[np.ndarray]) -> Parts:
            own = dict(zip(holding.clients.tolist(), index, strict=True))
            return Parts(own, plan.network.clients)

        streams = Streams(plan.streams.seed, holding.secret)
        known = plan.known() | {"dataset": holding.dataset(plan.dataset), "streams": streams}
        held = group(holding.held) if holding.held else ()
        return cls(**known, parts=group(holding.parts), held=held, numbered=holding.numbers)

    @property
    def plan(self) -> Plan:
        """What every party knows of it."""
        public = {
            "streams": Streams(self.streams.seed),  # without a secret
            "dataset": public_part(self.dataset),
            "trial": self.tried,
        }
        return Plan(**self.known() | public)

    def holding(self, ids: np.ndarray, secret: bytes | None = None) -> Holding:
        """What the holder of some nodes has, servers among them or not.

        Raises:
            NotHeld: it is not here.
        """
        clients = np.sort(ids[ids < self.network.clients])
        return Holding.of(clients, self.dataset, self.parts, self.held, self.numbered, secret)

    def party(self, ids: np.ndarray) -> Job:
        """The job as the holder of some nodes has it, once all have told what they must."""
        job = Job.of(self.plan, self.holding(ids))
        job.joined, job.streams = self.roster, self.streams
        return job

    @property
    def numbers(self) -> np.ndarray:
        """int64 [len(dataset.train)]: what the run's own numbering, which requests to forget use,
        calls each training example that is here."""
        return np.arange(len(self.dataset.train)) if self.numbered is None else self.numbered

    @property
    def clients_here(self) -> np.ndarray:
        """int64 [k], ids of the clients whose examples are here, ascending."""
        if isinstance(self.parts, Parts):
            return np.array(sorted(self.parts.own), dtype=np.int64)
        return np.arange(len(self.parts))

    @property
    def own_sizes(self) -> np.ndarray:
        """int64 [k], how many examples each of :attr:`clients_here` trains on."""
        return self._sizes(self.parts)

    def _sizes(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        if isinstance(parts, Parts):
            return np.array([len(parts[c]) for c in self.clients_here.tolist()], dtype=np.int64)
        return sizes_of(parts)

    def tells(self) -> dict[str, np.ndarray]:
        """What the clients whose examples are here tell when they join, int64 by name.

        ``clients`` are their ids [k]; the rest is in their order.
        """
        here = self.clients_here
        told, said = self.algorithm.must_tell, {"clients": here}
        if "sizes" in told:
            for name, group in (("sizes", self.parts), ("held", self.held)):
                said[name] = self._sizes(group) if len(group) else np.zeros_like(here)
        if "labels" in told and self.dataset.spec.task != "regression":
            classes, targets = self.dataset.spec.classes, self.dataset.train.targets.cpu().numpy()
            said["labels"] = np.zeros((0, classes), dtype=np.int64)
            if len(here):
                own = isinstance(self.parts, Parts)
                parts = [self.parts[c] for c in here.tolist()] if own else self.parts
                said["labels"] = label_histogram(targets, parts, classes)
        if "keys" in told:
            said |= self._signs(here)
        return said

    def _signs(self, here: np.ndarray) -> dict[str, np.ndarray]:
        """By which keys the clients here sign, and whose ratings they have."""
        spec, inputs = self.dataset.spec, self.dataset.train.inputs
        every = spec.vocabulary[0] if spec.kind == "pairs" else 0
        users = [inputs[self.parts[c], 0].cpu().numpy() if every else here[:0] for c in here]
        return {
            "keys": node_keys.public(self.streams, here),
            "owned": node_keys.owned(users, every),
        }

    @cached_property
    def roster(self) -> Roster:
        """What the nodes told of themselves when they joined."""
        return self.gathered([self.tells()]) if self.joined is None else self.joined

    def joins(self, tells: Sequence[Mapping[str, Any]]) -> Job:
        """This job, with the roster of what all parties told.

        Raises:
            NotTold: a client's party is not among them.
            WireError: a party tells what it was not asked for.
        """
        self.joined = self.gathered(tells)
        return self

    def gathered(self, tells: Sequence[Mapping[str, Any]]) -> Roster:
        """The roster of what all parties told.

        Raises:
            NotTold: a client's party is not among them.
        """
        clients, method = self.network.clients, self.algorithm
        return Roster.of(tells, self.nodes, clients, method.must_tell, method.name)

    # -- what is built of them

    def trainer(self) -> Trainer:
        """A trainer for some of the nodes."""
        return Trainer(
            self.module,
            self.dataset,
            self.train,
            self.rounds,
            self.strategy,
            self.device,
            self.threads,
            self.tried.chance,
            self.streams.integer("evaluation"),
            self.tried.counters,
            self.tried.restless,
            self.evaluate.metrics,
            self.workers == 1,
            self.privacy if isinstance(self.privacy, ExamplePrivacy) else None,
            self.evaluate.precision or self.train.precision,
            self.tried.widest,
        )

    @cached_property
    def tried(self) -> Tried:
        """What the model does on a few examples.

        Raises:
            ConfigError: it cannot be trained; the field is empty.
        """
        if self.trial is not None:
            return self.trial
        here = self.clients_here
        smallest, at = self.train.smallest_batch(self.own_sizes)
        who = f", as node {here[at]} has" if len(here) else ""
        narrow = "bfloat16" in (self.train.precision, self.evaluate.precision)
        return try_out(self.module, self.dataset, smallest, who, narrow)

    @property
    def accounts(self) -> Accounts | None:
        """What keeps the accounts of privacy."""
        together = self.agrees and not self.algorithm.own_pace  # else nobody waits for others
        return accounts_of(self.privacy, self.rounds, together)

    def block(self, ids: np.ndarray) -> Block:
        """A block with these nodes at the start of the run."""
        trainer = self.trainer()
        initial = trainer.layout.flatten(trainer.module)
        block = self._start(ids, initial, trainer)
        block.clock, block.numbers = self.clock, self.numbered
        if self.accounts is not None:
            block.privacy = self.privacy
            self.accounts.start(block)
        if self.until is not None and self.until.patience is not None:
            figure = self.until.figure(self.metrics, self.evaluate, self.dataset)
            self.until.start(block, figure)
        block.facts[TOGETHER] = self.attackers is not None and self.attackers.attack.colluding
        if self.faults is not None:
            for name in COUNTERS:
                block.state[name] = counter(len(block))
        self.clock.start(block)
        self.algorithm.start(block)
        self.algorithm.check_block(block)
        return block

    def bench(self, k: int) -> Block:
        """The first k clients, each with a model, as they are while they train."""
        trainer = self.trainer()
        initial = trainer.layout.flatten(trainer.module).to(trainer.device)
        everyone = np.arange(k)
        block = self._start(everyone, initial, trainer)
        block.clock = self.clock
        return block.visit(everyone, initial.repeat(k, 1))

    def _start(self, ids: np.ndarray, initial: Tensor, trainer: Trainer) -> Block:
        return Block.start(
            ids, initial, self.parts, self.streams, self.network, trainer, self.roster, self.held
        )
