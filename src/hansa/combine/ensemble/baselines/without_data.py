"""Baselines that distil the ensemble into one network without data (``ensemble/datafree.py``)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.base.losses import predicted
from hansa.combine.ensemble import cost
from hansa.combine.ensemble.baseline import FIELD, Baseline, Compared
from hansa.combine.ensemble.ensemble_settings import EnsembleSettings
from hansa.data import Dataset
from hansa.ensemble import data_free, weighted_logits
from hansa.models import Model, initial_model

if TYPE_CHECKING:
    from torch import nn

    from hansa.combine.ensemble.harness import Harness
    from hansa.combine.ensemble.members import Member


@register("dense", paper="Zhang et al.", year=2022, url="https://arxiv.org/abs/2112.12371")
class DenseStudent(Baseline):
    """A student of the plain mean, on inputs that a generator makes up out of noise."""

    boosts: ClassVar[bool] = False

    def check(self, settings: EnsembleSettings, dataset: Dataset) -> None:
        if settings.predictors:
            self._refuse_predictors("leave predictors or it out")
        if dataset.spec.kind not in ("image", "table"):
            problem = f"makes up images and tables, not {dataset.spec.kind}"
            raise ConfigError(FIELD, type(self).name, problem, "leave it out")

    def check_members(self, brought: Sequence[Member]) -> None:
        if any(member.stored is not None for member in brought):
            self._refuse_predictors("leave .skops or it out")

    def _refuse_predictors(self, fix: str) -> None:
        problem = "needs a gradient of every member, and fitted predictors have none"
        raise ConfigError(FIELD, type(self).name, problem, fix)

    def run(self, harness: Harness) -> Compared:
        name, outputs = type(self).name, harness.dataset.spec.outputs
        student = copy.deepcopy(harness.module).to(torch.device(harness.settings.device))
        taught = data_free(
            student,
            [_smooth(harness, member) for member in harness.members],
            harness.input_form(),
            outputs,
            harness.settings.baselines.datafree,
            harness.streams.numpy(f"student {name}"),
            boost=self.boosts,
        )
        # What the student could come to: the teacher's own score on the test set.
        weights = taught.weights.cpu().unsqueeze(1).expand(-1, outputs)
        answers = weighted_logits(harness.scores.test, weights / weights.sum(0))
        teacher = float((predicted(answers) == harness.scores.test_targets).double().mean())
        note = f"one network, taught on {len(taught.pool)} made-up inputs by a mean of members "
        note += f"whose own accuracy is {teacher:.3f}"
        counted = harness.upload() + harness.size
        accuracy, formula = harness.accuracy(student.cpu()), cost.one_shot(harness.size)
        figures = harness.figures(student)
        return Compared(name, accuracy, formula, counted, note, figures=figures)


@register("coboosting", paper="Dai et al.", year=2024, url="https://arxiv.org/abs/2402.15070")
class CoBoostingStudent(DenseStudent):
    """As ``dense``, with harder inputs and a teacher whose weights move."""

    boosts: ClassVar[bool] = True


def _smooth(harness: Harness, member: Member) -> nn.Module:
    """A member as uploaded; the outputs of its layers not rounded, which have no slope."""
    if member.ranges is None:
        return member.scorer
    assert isinstance(member.form, Model)
    assert member.packed is not None
    module = initial_model(member.form, harness.dataset.spec, harness.streams)
    module.load_state_dict(member.packed.state())
    return replace(member, module=module).scorer
