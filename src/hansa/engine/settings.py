"""What a run file may say about local work, measuring and saving."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hansa.base.checks import refuse_booleans
from hansa.base.errors import ConfigError
from hansa.base.paths import locate
from hansa.base.spec import DataSpec
from hansa.engine.own_judge import OwnJudge
from hansa.engine.training.augment import Augmentation
from hansa.engine.training.batches import Batching
from hansa.engine.training.budget import Budget, Full
from hansa.engine.training.optimizers import SGD, Optimizer
from hansa.engine.training.precision import Precision
from hansa.engine.training.schedules import Constant, Schedule
from hansa.metrics import Metric, MetricSet


class Settings(BaseModel):
    """A frozen group of settings that refuses unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _locate(cls, settings: Any) -> Any:
        refuse_booleans(cls, settings)
        return locate(cls, settings)


class TrainSettings(Settings):
    """Local work: what a node does between two exchanges."""

    local_steps: int = Field(5, ge=0, description="mini-batch steps a node takes each round")
    local_epochs: int | None = Field(
        None, ge=1, description="passes over the node's own data each round, instead of local_steps"
    )
    batch_size: int = Field(16, ge=1, description="examples a step")
    drop_last: bool = Field(
        True,
        description="leave out the last, smaller batch of a pass; false: use it, and let nodes "
        "with fewer examples than batch_size use them all",
    )
    draw: Literal["passes", "fresh"] = Field(
        "passes",
        description="mini-batches from shuffled passes, or each drawn anew from all examples",
    )
    budget: Budget = Field(Full(), description="how many of the asked steps each node can afford")
    optimizer: Optimizer = Field(SGD(), description="the rule that turns gradients into steps")
    schedule: Schedule = Field(Constant(), description="the learning rate's course over rounds")
    augment: tuple[Augmentation, ...] = Field(
        (), description="random changes of training images, one after the other"
    )
    clip_norm: float | None = Field(
        None, gt=0, description="largest L2 norm of a node's gradient; none = unlimited"
    )
    strategy: Literal["auto", "stacked", "looped"] = Field(
        "auto",
        description="all nodes in one batched operation, or one after the other; auto: by model",
    )
    precision: Precision = Field(
        "float32",
        description="what passes compute in; bfloat16: mixed, models and sums stay float32",
    )
    on_divergence: Literal["report", "stop"] = Field(
        "report", description="what a loss that is not finite or above diverged_above leads to"
    )
    diverged_above: float = Field(
        1e4,
        gt=0,
        allow_inf_nan=True,
        description="a training loss that counts as diverged",
    )

    def check_augment(self, spec: DataSpec) -> None:
        """Refuse augmentations that do not fit the data.

        Raises:
            ConfigError: names the one.
        """
        for k, one in enumerate(self.augment):
            try:
                one.check(spec)
            except ConfigError as error:
                raise error.under(f"augment.{k}") from None

    @property
    def batching(self) -> Batching:
        """How examples become mini-batches."""
        return _batching(self.batch_size, self.drop_last, self.draw == "fresh")

    def asked(self, sizes: np.ndarray) -> np.ndarray:
        """Steps that a round asks of nodes with ``sizes`` [k] examples, whatever their budget."""
        if self.local_epochs is None:
            return np.full(len(sizes), self.local_steps, dtype=np.int64)
        return self.local_epochs * self.batching.per_pass(sizes)

    def asked_examples(self, sizes: np.ndarray) -> np.ndarray:
        """As :meth:`asked`, in training examples: int64 [k]."""
        return self.batching.samples(sizes, self.asked(sizes))

    def smallest_batch(self, sizes: np.ndarray) -> tuple[int | None, int]:
        """(examples of the smallest batch that nodes with ``sizes`` [k] train on, whose it is).

        None where nobody trains.
        """
        least: list[int] = []
        alike, first, which = np.unique(sizes, return_index=True, return_inverse=True)
        for size, steps in zip(alike.tolist(), self.asked(alike).tolist(), strict=True):
            lengths = self.batching.lengths(size, steps)
            # Who has nothing, as a client that was made to leave, does not train.
            least.append(int(lengths.min(initial=self.batch_size)) if size else self.batch_size)
        if not least or not self.asked(alike).any():
            return None, 0
        node = int(first[np.array(least) == min(least)].min())
        return least[int(which[node])], node


_batching = lru_cache(maxsize=64)(Batching)  # it is asked for at every wake-up of a node


class EvaluateSettings(Settings):
    """When and on whom the models are measured."""

    every: int = Field(10, ge=1, description="rounds between two evaluations; the last is always")
    dense_start: bool = Field(
        True,
        description="also measure the initial model, as round 0, and rounds 1, 2, 4, 8 ... before "
        "the first of every",
    )
    metrics: tuple[Metric, ...] = Field(
        (),
        description="what is measured, of hansa list metric; none = loss, and accuracy or rmse. "
        "Models are chosen by the first",
    )
    nodes: int | None = Field(
        None, ge=1, description="evaluate a fixed random sample of this many nodes; none = all"
    )
    local_validation: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of its examples that a client holds back to validate the models it "
        "receives; who has fewer than 10 trains on all",
    )
    per_client: bool = Field(
        False,
        description="also measure the model of each client on the examples that it holds back "
        "(local_validation): accuracy_per_client and the like, client by client",
    )
    own: OwnJudge | None = Field(
        None,
        description="what else is measured on the examples that clients hold back, of hansa list "
        "judge",
    )
    when: Literal["after_exchange", "after_training"] = Field(
        "after_exchange", description="the moment in the round that is measured"
    )
    average_model: bool = Field(True, description="also evaluate the average of all models")
    batch_size: int = Field(500, ge=1, description="examples a forward pass")
    precision: Precision | None = Field(
        None, description="what models are measured in; none = train.precision"
    )

    @property
    def asks_clients(self) -> bool:
        """Whether models are measured where clients' examples are, too."""
        return self.per_client or self.own is not None

    def check_metrics(self, spec: DataSpec) -> None:
        """Refuse metrics that do not fit the data, or fail.

        Raises:
            ConfigError: names the one.
        """
        MetricSet(self.metrics, spec).try_out()
        if self.own is not None:
            try:
                self.own.check(spec)
            except ConfigError as error:
                raise error.under("own") from None


class CheckpointSettings(Settings):
    """When the state of all nodes is saved."""

    every: int = Field(
        20, ge=0, description="rounds between two checkpoints, and one at the end; 0 = never"
    )
    keep: int = Field(2, ge=1, description="how many of the latest checkpoints stay on disk")
