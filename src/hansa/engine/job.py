"""All that a run is, built and checked, before any node starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from hansa.base.streams import Streams
from hansa.data import Dataset
from hansa.engine.algorithm import Algorithm
from hansa.engine.bench import Strategy
from hansa.engine.block import Block
from hansa.engine.clock import Clock
from hansa.engine.network import Network
from hansa.engine.settings import CheckpointSettings, EvaluateSettings, TrainSettings
from hansa.engine.trainer import Trainer


@dataclass
class Job:
    """A run's parts. Every worker builds an equal one from the same run file.

    Attributes:
        parts: training examples of every node of the run.
        module: the model at its initial weights, the same for all nodes.
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
    strategy: Strategy = "looped"
    device: str = "cpu"
    threads: int = 0

    @property
    def nodes(self) -> int:
        """How many nodes the run has."""
        return self.network.nodes

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
        )

    def block(self, ids: np.ndarray) -> Block:
        """A block with these nodes at the start of the run."""
        trainer = self.trainer()
        initial = trainer.layout.flatten(trainer.module)
        block = Block.start(ids, initial, self.parts, self.streams, self.network, trainer)
        block.clock = self.clock
        self.clock.start(block)
        self.algorithm.start(block)
        return block

    def evaluated_nodes(self) -> np.ndarray:
        """Ids of the nodes whose models are evaluated: all, or a fixed random sample."""
        some = self.evaluate.nodes
        if some is None or some >= self.nodes:
            return np.arange(self.nodes)
        chosen = self.streams.numpy("evaluated nodes").choice(self.nodes, some, replace=False)
        return np.sort(chosen)

    def evaluates(self, done: int) -> bool:
        """Whether models are measured after ``done`` rounds."""
        return done % self.evaluate.every == 0 or done == self.rounds

    def saves(self, done: int) -> bool:
        """Whether a checkpoint is written after ``done`` rounds; the last always is."""
        every = self.checkpoint.every
        return every > 0 and (done % every == 0 or done == self.rounds)
