"""Baselines that distil the ensemble into one network on public examples."""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.combine.ensemble import cost
from hansa.combine.ensemble.baseline import FIELD, Baseline, Compared
from hansa.combine.ensemble.ensemble_settings import EnsembleSettings
from hansa.data import Dataset
from hansa.ensemble import Ensemble, Teacher, Weighted, distill, label_weights
from hansa.experiment.export import facts_of, write_export

if TYPE_CHECKING:
    from hansa.combine.ensemble.harness import Harness


class Student(Baseline):
    """One network that learns what the ensemble says of public examples.

    It is kept below the run's folder, ``baselines/NAME/model.safetensors``, as an export is.
    """

    @abstractmethod
    def teacher(self, harness: Harness) -> Teacher:
        """Whom it learns from."""

    def check(self, settings: EnsembleSettings, dataset: Dataset) -> None:
        if dataset.public is None:
            problem = "distils on public examples, and the data set withholds none"
            raise ConfigError(FIELD, type(self).name, problem, "set data.public, such as 0.2")

    def run(self, harness: Harness) -> Compared:
        public = harness.dataset.public
        assert public is not None  # check has looked
        student, name = copy.deepcopy(harness.module), type(self).name
        rng = harness.streams.numpy(f"student {name}")
        settings = harness.settings.baselines.distillation
        taught = harness.examples(public)
        distill(student, taught, self.teacher(harness), settings, rng)
        from hansa.combine.ensemble.finished import slug  # which needs torch

        file = harness.path / slug(name) / "model.safetensors"
        write_export(file, student, facts_of(harness.dataset, harness.settings.models[0], student))
        note = f"one network, taught on {len(public)} public examples"
        counted = harness.upload() + harness.size
        formula = cost.one_shot(harness.size)
        figures = harness.figures(student)
        return Compared(name, harness.accuracy(student), formula, counted, note, figures=figures)


@register("fedkd", paper="Gong et al.", year=2022)
class LabelWeightedStudent(Student):
    """A student of the ensemble whose members weigh by their labels, on public examples."""

    def teacher(self, harness: Harness) -> Teacher:
        weights = label_weights(harness.division.counts)
        if harness.dataset.spec.outputs == 1:
            weights = weights.mean(1, keepdim=True)
        return Ensemble([member.scorer for member in harness.members], Weighted(weights))


@register("distilled")
class KeptRuleStudent(Student):
    """A student of the ensemble with the rule that was kept, on public examples."""

    def teacher(self, harness: Harness) -> Teacher:
        return harness.ensemble()

    def run(self, harness: Harness) -> Compared:
        compared, kept = super().run(harness), harness.kept
        counted = compared.counted + kept.bytes_sent / len(harness.members)  # it had to be trained
        note = f"{compared.note} by {kept.rule.name}"
        return replace(compared, counted=counted, note=note)
