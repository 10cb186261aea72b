"""Cohorts as shards: exact forgetting in a run of several cohorts.

SISA training (Bourtoule et al., IEEE S&P 2021) splits the data into shards with a model each, so
that to forget an example only its shard's model is trained again. Here the shards are the cohorts
of CPFL (Dhasade et al., 2024): the leavers' cohorts are trained again from the initial model
without them, the others stay as they are, and the cohorts' models are merged (distilled) anew. The
result is the model of the whole run without the leavers, its cohorts being the same.

Deviations from SISA: no slices, so that a cohort begins from the start; and one model is distilled
where SISA keeps all and lets them vote. A cohort that loses all its clients is dissolved, and has
no weight any more: the others share each class by the examples that they have.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.experiment.played import HERE, Place
from hansa.forget.again import Again
from hansa.forget.case import Case
from hansa.forget.cohorts import InCohorts, reduced, train_again
from hansa.forget.method import Exact


@register("shards", paper="Bourtoule et al.", year=2021, url="https://arxiv.org/abs/1912.03817")
class Shards(Exact):
    """Train the leavers' cohorts again without them, then merge all cohorts: exact (as SISA)."""

    def check(self, case: Case) -> None:
        """Refuse a run without cohorts, and what its cohorts could not be trained with."""
        super().check(case)
        job = case.job
        if job.servers < 2 or not isinstance(job.algorithm, InCohorts):
            raise ConfigError(
                "method",
                "shards",
                "trains cohorts again, and all clients of this run learn one model",
                "--method retrain; or train with algorithm: cpfl and several cohorts",
            )
        reduced(case)

    def train_again(self, case: Case, folder: Path, place: Place = HERE) -> Again:
        plan = reduced(case)
        again = train_again(case, plan, plan.affected, folder, place)
        # A class that every cohort holds leaves nothing to be kept.
        again.story["all"] = bool(np.isin(plan.there, plan.affected).all())
        return again
