"""What all parties of a trained run know of it, wherever they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hansa.base.streams import Streams
from hansa.data import Dataset
from hansa.engine import Algorithm, Block, Job, Trainer, TrainSettings
from hansa.metrics import MetricSet

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class RunPlan:
    """How a run was trained.

    Attributes:
        module: the model at its initial weights.
        dataset: its form, and the examples that all have; a party looks only at its own others.
        streams: the run's.
        algorithm: what the clients learned by.
        train: their local work.
        rounds: how many were planned.
        done: how many there were.
        clients: how many nodes have data.
        servers: how many have none.
        metrics: what is measured.
    """

    module: nn.Module
    dataset: Dataset
    streams: Streams
    algorithm: Algorithm
    train: TrainSettings
    rounds: int
    done: int
    clients: int
    servers: int
    metrics: MetricSet

    @classmethod
    def of_job(cls, job: Job, done: int) -> RunPlan:
        """Of the job of the run itself, of which so many rounds were done."""
        return cls(
            job.module, job.dataset, job.streams, job.algorithm, job.train, job.rounds, done,
            job.network.clients, job.servers, job.metrics,
        )  # fmt: skip

    @classmethod
    def of_block(cls, block: Block, algorithm: Algorithm, rounds: int, done: int) -> RunPlan:
        """Of a block of the run's nodes that does something else now."""
        trainer = block.trainer
        assert isinstance(trainer, Trainer)
        return cls(
            trainer.module, trainer.dataset, block.streams, algorithm, trainer.settings, rounds,
            done, block.clients, block.nodes - block.clients, trainer.metrics,
        )  # fmt: skip

    @property
    def classes(self) -> int:
        """K, how many classes there are."""
        return self.dataset.spec.classes

    def rate(self, t: int) -> float:
        """The learning rate of round ``t`` by the run's schedule; beyond its end, the last one."""
        factor = self.train.schedule.factor(min(t, self.done - 1), self.rounds)
        return self.train.optimizer.lr * factor

    def growth(self, t: int, later: int) -> float:
        """By what factor an update of round ``later`` is longer than one of ``t``, by the rate."""
        now = self.rate(t)
        return self.rate(later) / now if now else 1.0
