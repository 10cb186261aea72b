"""What an ensemble is compared with, in one harness: all of each client's examples, one table.

Methods that are measured more than once are credited with their best measurement on the test set,
as in FENS's paper: that favours them, never the ensemble.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.base.losses import predicted
from hansa.base.streams import Streams
from hansa.combine.ensemble import cost
from hansa.combine.ensemble.aggregate import Fit
from hansa.combine.ensemble.ensemble_settings import EnsembleSettings, algorithm
from hansa.combine.ensemble.members import Member
from hansa.combine.ensemble.proxies import Division, Scores
from hansa.combine.ensemble.runs import HERE, Place, Played, play
from hansa.combine.ensemble.scoring import examples
from hansa.combine.ensemble.teachers import Kept, input_form
from hansa.data import Dataset
from hansa.engine import Algorithm, TrainSettings
from hansa.ensemble import (
    Ensemble,
    Teacher,
    Weighted,
    data_free,
    distill,
    label_weights,
    logits_of,
    state_bytes,
    weighted_logits,
)
from hansa.models import Model, ParameterLayout, initial_model

if TYPE_CHECKING:
    from torch import nn

DATA_FREE = ("dense", "coboosting")


@dataclass(frozen=True)
class Compared:
    """One line of the table.

    Attributes:
        formula, counted: bytes that one client sends and receives.
        curve: (round, accuracy on the test set, counted bytes so far) of what takes rounds.
    """

    name: str
    accuracy: float
    formula: float
    counted: float
    note: str = ""
    curve: Sequence[tuple[int, float, float]] = ()


def check(settings: EnsembleSettings, dataset: Dataset) -> None:
    """Refuse baselines that cannot run, before anything does.

    Raises:
        ConfigError: a student has nothing to learn on, inputs for it cannot be made up, or there
            is no network to train.
    """
    methods = settings.baselines.methods
    if methods and not settings.models:
        raise ConfigError("baselines.methods", list(methods), "need a network", "models: [mlp]")
    students = [m for m in methods if m in ("fedkd", "distilled")]
    if students and dataset.public is None:
        problem = "distils on public examples, and the data set withholds none"
        raise ConfigError("baselines.methods", students[0], problem, "set data.public, such as 0.2")
    makers = [m for m in methods if m in DATA_FREE]
    if makers and settings.predictors:
        problem = "needs a gradient of every member, and fitted predictors have none"
        raise ConfigError("baselines.methods", makers[0], problem, "leave predictors or it out")
    if makers and dataset.spec.kind not in ("image", "table"):
        problem = f"makes up images and tables, not {dataset.spec.kind}"
        raise ConfigError("baselines.methods", makers[0], problem, "leave it out")


def check_members(settings: EnsembleSettings, brought: Sequence[Member]) -> None:
    """Refuse baselines that brought members do not allow.

    Raises:
        ConfigError: inputs cannot be made up for members without gradients.
    """
    makers = [m for m in settings.baselines.methods if m in DATA_FREE]
    if makers and any(member.stored is not None for member in brought):
        problem = "needs a gradient of every member, and fitted predictors have none"
        raise ConfigError("baselines.methods", makers[0], problem, "leave .skops or it out")


class Harness:
    """Runs baselines on a division of a data set.

    Args:
        kept: the ensemble's rule, for the student that it teaches.
        path: below it each run of the engine has a folder.
        place: where the clients of those runs live.
    """

    def __init__(
        self,
        settings: EnsembleSettings,
        dataset: Dataset,
        division: Division,
        members: Sequence[Member],
        scores: Scores,
        kept: Fit,
        path: Path,
        place: Place = HERE,
    ) -> None:
        self.settings, self.dataset, self.division = settings, dataset, division
        self.members, self.scores, self.kept = members, scores, kept
        self.path, self.place = path, place
        pairs = zip(division.train, division.proxy, strict=True)
        self.whole = [np.union1d(train, proxy) for train, proxy in pairs]
        self.streams = Streams(Streams(settings.seed).integer("baselines"))
        self.module = initial_model(settings.models[0], dataset.spec, self.streams)
        self.size = state_bytes(self.module)

    def run(self, method: str) -> Compared:
        """One baseline."""
        if method in ("fedkd", "distilled"):
            return self._student(method)
        if method in DATA_FREE:
            return self._data_free(method)
        if method == "fedavg_once":
            return self._once()
        if method == "fine_tuned":
            return self._fine_tuned()
        return self._iterative(method)

    def _play(
        self,
        name: str,
        chosen: Algorithm,
        parts: Sequence[np.ndarray],
        rounds: int,
        epochs: int,
        lr: float | None = None,
        start: nn.Module | None = None,
        held: Sequence[np.ndarray] = (),
    ) -> Played:
        optimizer = self.settings.baselines.optimizer
        if lr is not None:
            optimizer = optimizer.model_copy(update={"lr": lr})
        train = TrainSettings(
            local_epochs=epochs,
            batch_size=self.settings.local.batch_size,
            drop_last=False,
            augment=self.settings.local.augment,
            optimizer=optimizer,
            strategy=self.settings.local.strategy,
        )
        return play(
            self.path / name,
            dataset=self.dataset.to(torch.device(self.settings.device)),
            parts=parts,
            module=copy.deepcopy(start or self.module),
            algorithm=chosen,
            train=train,
            rounds=rounds,
            seed=self.streams.seed,
            every=self.settings.baselines.every,
            device=self.settings.device,
            config={"baseline": name},
            place=self.place,
            form=None if held else self.settings.models[0],
            held=held,
        )

    def _each(self, played: Played) -> float:
        """Counted bytes of one client: every message has a client at one end."""
        return played.bytes_sent / len(self.whole)

    def _once(self) -> Compared:
        tried = {}
        for epochs in self.settings.baselines.once:
            name = f"fedavg_once_{epochs}"
            tried[epochs] = self._play(name, algorithm("fedavg"), self.whole, 1, epochs)
        best = max(tried, key=lambda epochs: tried[epochs].curve[-1][1])
        accuracy, counted = tried[best].curve[-1][1], self._each(tried[best])
        note = f"best on the test set of {', '.join(map(str, tried))} epochs: {best}"
        return Compared("fedavg_once", accuracy, cost.one_shot(self.size), counted, note)

    def _iterative(self, method: str) -> Compared:
        given = self.settings.baselines
        more: dict[str, Any] = {}
        if given.patience is not None:
            rule = {"window": 1, "patience": given.patience, "strict": True}
            more = {"stop": rule, "select": "best"}
        chosen, lr = algorithm("fedavg", **more), None
        if method == "fedadam":
            server = {"name": "adam", "lr": given.adam_server_lr}
            chosen, lr = algorithm("fedadam", server=server, **more), given.adam_lr
        if given.patience is not None:
            return self._until_flat(method, chosen, lr, given.patience)
        played = self._play(method, chosen, self.whole, given.rounds, given.local_epochs, lr)
        return self._best(method, played, given.rounds)

    def _until_flat(
        self, method: str, chosen: Algorithm, lr: float | None, patience: int
    ) -> Compared:
        """Until the loss on the proxies no longer falls; its lowest counts."""
        given = self.settings.baselines
        played = self._play(
            method, chosen, self.division.train, given.rounds, given.local_epochs, lr,
            held=self.division.proxy,
        )  # fmt: skip
        module = copy.deepcopy(self.module)
        ParameterLayout.of(module).load_(module, played.rows[0].cpu())
        stopped = played.rounds < given.rounds
        at = max(played.rounds - patience, 1) if stopped else played.rounds
        note = f"lowest loss on the proxies about round {at}, stopped after {played.rounds}"
        if not stopped:
            note = f"still gaining on the proxies after all {at} rounds"
        counted = self._each(played) * at / played.rounds
        accuracy, formula = self._accuracy(module), cost.iterative(self.size, at)
        return Compared(method, accuracy, formula, counted, note, self._course(played))

    def _course(self, played: Played) -> list[tuple[int, float, float]]:
        each = self._each(played) / max(played.rounds, 1)
        return [(at, accuracy, each * at) for at, accuracy in played.curve]

    def _best(self, name: str, played: Played, rounds: int, before: int = 0) -> Compared:
        at, accuracy = max(played.curve, key=lambda point: point[1])
        counted = self._each(played) * at / rounds
        note = f"best on the test set, after round {at} of {rounds}"
        formula = cost.iterative(self.size, before + at)
        return Compared(name, accuracy, formula, counted, note, self._course(played))

    def _fine_tuned(self) -> Compared:
        """FedAvg on what members are trained on, then FedAvg on the proxies."""
        given = self.settings.baselines
        first = self._play(
            "fine_tuned_before", algorithm("fedavg"), self.division.train, given.rounds,
            given.local_epochs,
        )  # fmt: skip
        start = copy.deepcopy(self.module)
        ParameterLayout.of(start).load_(start, first.rows[0])
        proxies = [part for part in self.division.proxy if len(part)]
        second = self._play(
            "fine_tuned", algorithm("fedavg"), proxies, given.rounds, given.local_epochs,
            start=start,
        )  # fmt: skip
        found = self._best("fine_tuned", second, given.rounds, before=given.rounds)
        whole = found.counted + self._each(first)
        return Compared(found.name, found.accuracy, found.formula, whole, found.note)

    def _student(self, method: str) -> Compared:
        """One network that learns what the ensemble says of public examples."""
        public = self.dataset.public
        assert public is not None  # check has looked
        modules = [member.scorer for member in self.members]
        teacher: Teacher
        if method == "fedkd":
            weights = label_weights(self.division.counts)
            if self.dataset.spec.outputs == 1:
                weights = weights.mean(1, keepdim=True)
            teacher = Ensemble(modules, Weighted(weights))
        else:
            teacher = Kept(modules, self.kept)
        student = copy.deepcopy(self.module)
        rng = self.streams.numpy(f"student {method}")
        settings = self.settings.baselines.distillation
        distill(student, examples(self.dataset, public), teacher, settings, rng)
        formula = cost.one_shot(self.size)
        note = f"one network, taught on {len(public)} public examples"
        counted = self._uploads() + self.size
        if method == "distilled":  # the rule had to be trained first
            note += f" by {self.kept.rule.name}"
            counted += self.kept.bytes_sent / len(self.members)
        return Compared(method, self._accuracy(student), formula, counted, note)

    def _data_free(self, method: str) -> Compared:
        """One network that learns what the uploads say of inputs made out of noise."""
        device = torch.device(self.settings.device)
        student = copy.deepcopy(self.module).to(device)
        given = self.settings.baselines.datafree
        taught = data_free(
            student,
            [self._smooth(member) for member in self.members],
            input_form(self.dataset),
            self.dataset.spec.outputs,
            given,
            self.streams.numpy(f"student {method}"),
            boost=method == "coboosting",
        )
        # What the student could come to: the teacher's own score on the test set.
        weights = taught.weights.cpu().unsqueeze(1).expand(-1, self.dataset.spec.outputs)
        answers = weighted_logits(self.scores.test, weights / weights.sum(0))
        teacher = float((predicted(answers) == self.scores.test_targets).double().mean())
        note = f"one network, taught on {len(taught.pool)} made-up inputs by a mean of members "
        note += f"whose own accuracy is {teacher:.3f}"
        counted = self._uploads() + self.size
        accuracy = self._accuracy(student.cpu())
        return Compared(method, accuracy, cost.one_shot(self.size), counted, note)

    def _smooth(self, member: Member) -> nn.Module:
        """A member as uploaded; the outputs of its layers not rounded, which have no slope."""
        if member.ranges is None:
            return member.scorer
        assert isinstance(member.form, Model)
        assert member.packed is not None
        module = initial_model(member.form, self.dataset.spec, self.streams)
        module.load_state_dict(member.packed.state())
        return replace(member, module=module).scorer

    def _uploads(self) -> float:
        """Bytes of one upload, the mean over members."""
        return sum(member.upload for member in self.members) / len(self.members)

    def _accuracy(self, student: nn.Module) -> float:
        answers = logits_of([student], examples(self.dataset, self.dataset.test))[0]
        return float((predicted(answers) == self.scores.test_targets).double().mean())
