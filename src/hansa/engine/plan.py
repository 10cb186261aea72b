"""What every party of a run knows, built and checked before any node starts."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.streams import Streams
from hansa.data import Dataset
from hansa.engine.algorithm import Algorithm
from hansa.engine.exchange.asked import Exchange, Post
from hansa.engine.exchange.attackers import Attackers
from hansa.engine.exchange.faults import Faults
from hansa.engine.exchange.recorded import Recorded
from hansa.engine.exchange.weather import Weather
from hansa.engine.links.shaping import Shaping
from hansa.engine.network import Network
from hansa.engine.settings import CheckpointSettings, EvaluateSettings, TrainSettings
from hansa.engine.time.clock import Clock
from hansa.engine.time.presence import Presence
from hansa.engine.training.bench import Strategy
from hansa.engine.training.trial import Tried
from hansa.engine.until import UntilSettings
from hansa.metrics import MetricSet
from hansa.models import Model
from hansa.privacy.privacy import Privacy

if TYPE_CHECKING:
    from torch import nn


@dataclass(kw_only=True)
class Plan:
    """What every party of a run knows: all but the examples that clients train on.

    Attributes:
        dataset: its test, validation and public examples, its form, and the global figures:
            scale and shift, what fills gaps, lowest and highest values, names, who holds markers.
            In a plan it has no training examples; in a :class:`Job` those that are held here.
        module: the model at its initial weights, the same for all nodes.
        attackers: the clients that send something else than they should, or None.
        faults: what goes wrong on purpose, or None.
        shaping: what the links between nodes are like, or None: as they are.
        privacy: what protects examples or nodes, or None.
        until: what ends the run before its last round, or None.
        agrees: whether all nodes are one owner's, whose blocks can agree to end the run.
        form: what the module is built from; None: no other process can.
        plugins: modules or files that components come from.
        trial: what the model does on a few examples, once that has been tried.
        threads, workers: chunks of nodes at a time (0: as many as there are lanes), and how many
            processes the machine is shared by; each worker's own.
    """

    rounds: int
    streams: Streams
    dataset: Dataset
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
    attackers: Attackers | None = None
    faults: Faults | None = None
    shaping: Shaping | None = None
    privacy: Privacy | None = None
    until: UntilSettings | None = None
    agrees: bool = True
    form: Model | None = None
    plugins: tuple[str, ...] = ()
    trial: Tried | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        if self.faults is not None and self.faults.slow:
            self.clock = self.clock.slowed(self.faults.slow)

    def known(self) -> dict[str, Any]:
        """The fields of a plan by name, of a job too."""
        return {one.name: getattr(self, one.name) for one in fields(Plan)}

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

    def exchange(self, post: Post | None = None, recorded: Recorded | None = None) -> Exchange:
        """What a block of the job exchanges with.

        Args:
            post: carries messages to other workers; None: the block holds all nodes.
            recorded: what happened in the run that is replayed.
        """
        tolerant = self.algorithm.tolerates_loss
        weather = None if self.shaping is None else Weather(self.shaping, self.streams)
        return Exchange(self.clock, post, self.faults, tolerant, recorded, weather)

    @cached_property
    def metrics(self) -> MetricSet:
        """What is measured."""
        return MetricSet(self.evaluate.metrics, self.dataset.spec)

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
