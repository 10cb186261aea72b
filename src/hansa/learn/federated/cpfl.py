"""CPFL: cohorts learn side by side, and one distillation makes a model of theirs.

Cohort-parallel federated learning (Dhasade et al., 2024, arXiv 2405.15644). Clients are put into
cohorts; each runs FedAvg with a server of its own, all from the same initial model and all at once
on one clock, until its clients' validation loss no longer falls. Then the cohorts' best models
teach one student on public, unlabelled examples: the target of class c is sum_i p_ic z_ic, where
p_ic is the share of class c's training examples that cohort i has. One cohort is FedAvg, as many
as clients is one-shot learning.

The published code asks for any improvement at all before it stops (``stop.strict``), distils
log-probabilities (``distillation.target``) and starts the student anew; see ``Plateau`` and
``Distillation`` for where the defaults here differ. Averaging the cohorts' models instead needs no
public examples (``merge: average``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.codec import Dense, whole_rows
from hansa.data import Dataset, DataSource
from hansa.data.dealing.cohorts import Cohorts, UniformCohorts
from hansa.data.dealing.listed_cohorts import short_form
from hansa.engine import Block, Ending, Outcome, Send
from hansa.ensemble import (
    Distillation,
    Ensemble,
    Examples,
    Rows,
    Weighted,
    distill,
    label_weights,
    uniform_weights,
)
from hansa.learn.federated.cohorted import cohorted
from hansa.learn.federated.federated import STOPPED, Federated
from hansa.learn.federated.plateau import Plateau
from hansa.models import shared_copy
from hansa.topology import Graph

if TYPE_CHECKING:
    from torch import Tensor


@register("cpfl", paper="Dhasade et al.", year=2024, url="https://arxiv.org/abs/2405.15644")
class CPFL(Federated):
    """FedAvg in cohorts side by side, then one distillation of their models."""

    uses_public: ClassVar[bool] = True
    usual: ClassVar[dict[str, Any]] = {
        "data": {"public": 0.2},
        "evaluate": {"local_validation": 0.1},
    }
    cohorts: Cohorts = Field(
        UniformCohorts(cohorts=4),
        description="how clients are put into cohorts; a number: so many at random; or lists of "
        "clients, or a file's path",
    )
    weighting: Literal["examples", "uniform"] = Field(
        "uniform", description="weight of an update: the client's number of examples, or 1"
    )
    stop: Plateau | None = Field(Plateau(), description="when a cohort is done")
    select: Literal["last", "best"] = Field("best", description="the model of a cohort")
    merge: Literal["distill", "average", "none"] = Field(
        "distill", description="what becomes of the cohorts' models at the end"
    )
    class_weights: Literal["labels", "uniform"] = Field(
        "labels", description="a cohort's weight for a class: its share of the examples, or 1/n"
    )
    distillation: Distillation = Field(Distillation(), description="how the student is taught")
    public: DataSource | None = Field(
        None,
        description="examples to distil on, their labels unused; none = those that data.public "
        "withholds",
    )

    @field_validator("cohorts", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return short_form(value)

    @property
    def must_tell(self) -> frozenset[str]:  # type: ignore[override]
        """Sizes; labels only where cohorts are made by them or classes weighed by them."""
        weighs = self.merge == "distill" and self.class_weights == "labels"
        labels = {"labels"} if weighs or self.cohorts.sees_labels else set()
        return super().must_tell | labels

    def servers(self, clients: int) -> int:
        return self.cohorts.count(clients)

    def members(self, block: Block) -> np.ndarray:
        if "cpfl.members" not in block.facts:
            cohort = cohorted(block, self.cohorts, "cohorts")
            block.facts["cpfl.members"] = np.where(cohort < 0, -1, block.clients + cohort)
        return block.facts["cpfl.members"]

    def occupied(self, block: Block) -> np.ndarray:
        """int64, ascending: the numbers of the cohorts that have a client."""
        members = self.members(block)
        return np.unique(members[members >= block.clients]) - block.clients

    def rest(self, block: Block, cohorts: np.ndarray) -> None:
        """Let these cohorts do nothing, as those that have stopped."""
        servers = block.ids[block.residents] - block.clients
        block.kept[STOPPED][torch.from_numpy(np.isin(servers, cohorts))] = True

    def start(self, block: Block) -> None:
        super().start(block)
        empty = np.setdiff1d(np.arange(block.nodes - block.clients), self.occupied(block))
        self.rest(block, empty)
        several = block.nodes - block.clients > 1
        if several and self.merge != "none" and self.sent(block) < block.rows.shape[1]:
            problem = "a cohort's model has no statistics of its own that could be merged"
            raise ConfigError("buffers", self.buffers, problem, "buffers: average, or merge: none")
        if several and self.merge == "distill":
            self._public(block)

    def finish(self, block: Block, t: int) -> Ending:
        end = yield from super().finish(block, t)
        cohorts = block.rows if end is None or end.rows is None else end.rows
        if self.sent(block) == block.rows.shape[1]:
            self._measure_cohorts(block, cohorts)
        if block.nodes - block.clients == 1 or self.merge == "none":
            return end
        center = block.clients
        others = np.arange(center + 1, block.nodes)
        graph = Graph.from_edges(block.nodes, others, np.full(len(others), center))
        # Without one cohort the run has come to something else, so each is waited for.
        inbox = yield Send(
            cohorts, graph, Dense(), "cohort", senders=block.residents, on_missing="wait"
        )
        at = block.positions(np.array([center]))
        models = cohorts[:0]
        if len(at):
            received = whole_rows(inbox.messages(int(at[0]))[1])
            every = torch.cat([cohorts[:1], received.to(cohorts.device)])
            models = self.merged(block, every).unsqueeze(0)
        return Outcome(block.ids[at], models, "merged")

    def merged(self, block: Block, models: Tensor) -> Tensor:
        """One model [D] of the cohorts' [n, D]; those without clients have no say."""
        occupied = self.occupied(block)
        models = models[torch.from_numpy(occupied).to(models.device)]
        if self.merge == "average":
            return models.mean(0)
        layout, data = block.trainer.layout, self._public(block)
        if self.class_weights == "labels":
            weights = label_weights(self.counts(block)[occupied])
        else:
            weights = uniform_weights(len(occupied), block.trainer.dataset.spec.classes)
        teacher = Ensemble(Rows(block.trainer.module, layout, models), Weighted(weights))
        student = shared_copy(block.trainer.module)
        public = data.public if self.public is None else data.train
        assert public is not None  # _public has looked
        examples = Examples(
            len(public), lambda index: data.gather(public, index)[0], public.inputs.device
        )
        random = block.streams.numpy("distillation")
        losses = distill(student, examples, teacher, self.distillation, random)
        block.events.append({
            "kind": "distilled", "first_loss": losses[0], "loss": losses[-1],
            "epochs": len(losses), "examples": len(public), "teachers": len(models),
        })  # fmt: skip
        return layout.flatten(student)

    def counts(self, block: Block) -> np.ndarray:
        """int64 [n, C]: training examples of each class in each cohort."""
        labels = block.roster.labels
        assert labels is not None  # _public has looked
        counts = np.zeros((block.nodes - block.clients, labels.shape[1]), dtype=np.int64)
        part = self.members(block) >= block.clients
        np.add.at(counts, self.members(block)[part] - block.clients, labels[part])
        return counts

    def _measure_cohorts(self, block: Block, cohorts: Tensor) -> None:
        """Each cohort's own model on the test set, for the record."""
        data: Dataset = block.trainer.dataset
        for name, values in block.trainer.evaluate(cohorts, data.test, 500).items():
            block.report.pop(f"cohort_{name}", None)
            block.note(f"cohort_{name}", block.residents, values)

    def _public(self, block: Block) -> Dataset:
        """The data set with the public examples, checked against the one that is learned."""
        own: Dataset = block.trainer.dataset
        if own.spec.task == "regression":
            problem = "weighs classes, which a regression does not have"
            raise ConfigError("merge", self.merge, problem, "merge: average")
        if self.public is None:
            if own.public is None:
                problem = "needs public examples, and the data set withholds none"
                fix = "set data.public, such as 0.1, or algorithm.public, or merge: average"
                raise ConfigError("merge", self.merge, problem, fix)
            return own
        if "cpfl.public" not in block.facts:
            dataset: Dataset = self.public.load(block.streams)
            if dataset.spec.shape != own.spec.shape or dataset.spec.kind != own.spec.kind:
                raise ConfigError(
                    "public",
                    self.public.name,
                    f"its inputs are {dataset.spec.kind} of shape {list(dataset.spec.shape)}, the "
                    f"models take {own.spec.kind} of shape {list(own.spec.shape)}",
                    "a data set of the same form, or data.public",
                )
            block.facts["cpfl.public"] = dataset
        return block.facts["cpfl.public"]
