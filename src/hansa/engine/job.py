"""All that a run is, built and checked, before any node starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.streams import Streams
from hansa.data import Dataset, label_histogram
from hansa.engine.algorithm import Algorithm
from hansa.engine.block import Block, Roster
from hansa.engine.exchange.attackers import TOGETHER, Attackers
from hansa.engine.network import Network
from hansa.engine.settings import CheckpointSettings, EvaluateSettings, TrainSettings
from hansa.engine.time.clock import Clock
from hansa.engine.time.presence import Presence
from hansa.engine.training.bench import Strategy
from hansa.engine.training.trainer import Trainer
from hansa.engine.training.trial import Tried, try_out
from hansa.metrics import MetricSet

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass
class Job:
    """A run's parts. Every worker builds an equal one from the same run file.

    Attributes:
        parts: training examples of every client of the run.
        held: examples that the clients keep back to validate models, or nothing.
        module: the model at its initial weights, the same for all nodes.
        attackers: the clients that send something else than they should, or None.
    """

    rounds: int
    streams: Streams
    dataset: Dataset
    parts: Sequence[np.ndarray]
    module: nn.Module
    network: Network
    algorithm: Algorithm
    clock: Clock
    train: TrainSettings
    evaluate: EvaluateSettings
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    held: Sequence[np.ndarray] = ()
    strategy: Strategy = "looped"
    device: str = "cpu"
    threads: int = 0
    attackers: Attackers | None = None

    @property
    def nodes(self) -> int:
        """How many nodes the run has, servers included."""
        return self.network.nodes

    @property
    def servers(self) -> int:
        """How many of the nodes are servers, which have no data."""
        return self.network.servers

    @property
    def presence(self) -> Presence:
        """Who is there, by round and by time."""
        return Presence(self.network, self.clock)

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
        )

    @cached_property
    def metrics(self) -> MetricSet:
        """What is measured."""
        return MetricSet(self.evaluate.metrics, self.dataset.spec)

    @cached_property
    def tried(self) -> Tried:
        """What the model does on a few examples.

        Raises:
            ConfigError: it cannot be trained; the field is empty.
        """
        sizes = np.array([len(part) for part in self.parts], dtype=np.int64)
        smallest, node = self.train.smallest_batch(sizes)
        return try_out(self.module, self.dataset, smallest, f", as node {node} has")

    def block(self, ids: np.ndarray) -> Block:
        """A block with these nodes at the start of the run."""
        trainer = self.trainer()
        initial = trainer.layout.flatten(trainer.module)
        block = self._start(ids, initial, trainer)
        block.clock = self.clock
        block.facts[TOGETHER] = self.attackers is not None and self.attackers.attack.colluding
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

    @cached_property
    def roster(self) -> Roster:
        """What the nodes tell of themselves when they join."""
        sizes, held = (np.zeros(self.nodes, dtype=np.int64) for _ in range(2))
        for target, parts in ((sizes, self.parts), (held, self.held)):
            target[: len(parts)] = [len(part) for part in parts]
        labels = None
        if self.dataset.spec.task != "regression":
            classes = self.dataset.spec.classes
            targets = self.dataset.train.targets.cpu().numpy()
            labels = label_histogram(targets, self.parts, classes)
        return Roster(sizes, held, labels)

    def evaluated_nodes(self) -> np.ndarray:
        """Ids of the nodes whose models are evaluated: all, or a fixed random sample.

        An attacker's own model is nobody's concern.
        """
        some, every = self.evaluate.nodes, np.arange(self.nodes)
        if self.attackers is not None:
            every = np.setdiff1d(every, self.attackers.nodes)
        if some is None or some >= len(every) or self.servers:
            return every
        chosen = self.streams.numpy("evaluated nodes").choice(every, some, replace=False)
        return np.sort(chosen)

    def evaluates(self, done: int) -> bool:
        """Whether models are measured after ``done`` rounds; 0: as they are at the start."""
        return self.regular(done) or (
            self.evaluate.dense_start and done < self.evaluate.every and done & (done - 1) == 0
        )

    def regular(self, done: int) -> bool:
        """Whether ``done`` rounds are among those that ``evaluate.every`` asks for, or all."""
        return (done > 0 and done % self.evaluate.every == 0) or done == self.rounds

    def saves(self, done: int, last: bool) -> bool:
        """Whether a checkpoint is written after ``done`` rounds; the ``last`` always counts."""
        every = self.checkpoint.every
        return every > 0 and (done % every == 0 or last)
