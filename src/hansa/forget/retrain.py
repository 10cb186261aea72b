"""The oracle: the run once more from its initial model, without what is to be forgotten.

In a run with cohorts all clients keep their ids and cohorts. In others those who have nothing left
are not part of it, so that the ids behind theirs move up, and with them the random numbers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.engine import Job, Network
from hansa.engine.settings import EvaluateSettings
from hansa.experiment.played import HERE, Place
from hansa.forget.again import Again, train
from hansa.forget.case import Case
from hansa.forget.cohorts import InCohorts, reduced, train_again
from hansa.forget.ledger import Ledger
from hansa.forget.method import Exact


@register("retrain")
class Retrain(Exact):
    """Train again without it: exact, and what all others are measured by."""

    def check(self, case: Case) -> None:
        super().check(case)
        if isinstance(case.job.algorithm, InCohorts):
            reduced(case)
            return
        try:  # clients are left with fewer examples than in training
            without(case).tried  # noqa: B018 - for its errors
        except ConfigError as error:
            if error.field:
                raise
            fix = "--method sga, or a run with another train.batch_size or train.drop_last: true"
            raise ConfigError("method", "retrain", error.problem, fix) from error

    def train_again(self, case: Case, folder: Path, place: Place = HERE) -> Again:
        if isinstance(case.job.algorithm, InCohorts):
            plan = reduced(case)
            return train_again(case, plan, np.arange(plan.job.servers), folder, place)
        job, ledger = without(case), Ledger()
        server, _ = train(job, folder, ledger, place=place)
        story = {"clients": job.network.clients}
        return Again(server.models()[1][0].clone(), story, ledger)


def without(case: Case) -> Job:
    """The run with what remains: clients with nothing left are not part of it."""
    job = case.job
    remaining = case.remaining(job.parts)
    stay = [client for client, part in enumerate(remaining) if len(part)]
    parts, held = [remaining[c] for c in stay], case.remaining(job.held)
    smallest = min(map(len, parts))
    if job.train.drop_last and smallest < job.train.batch_size:
        raise ConfigError(
            "method",
            "retrain",
            f"a client is left with {smallest} examples, less than one batch of "
            f"{job.train.batch_size}, and the run leaves smaller ones out",
            "--method quickdrop, or a run with train.drop_last: false",
        )
    algorithm = job.algorithm
    changes: dict[str, Any] = {}
    if "distil" in type(algorithm).model_fields:
        changes["distil"] = False  # the model is the same, and nobody asked for images
    if "keep_updates" in type(algorithm).model_fields:
        changes["keep_updates"] = 0
    if (getattr(algorithm, "sampled", None) or 0) > len(parts):
        changes["sampled"] = None
    if getattr(algorithm, "min_updates", 0) > len(parts):
        changes["min_updates"] = len(parts)
    topology, servers = job.network.topology, job.network.servers
    return replace(
        job,
        parts=parts,
        held=[held[c] for c in stay] if held else (),
        algorithm=algorithm.model_copy(update=changes),
        network=Network(topology, len(parts) + servers, job.streams, servers),
        evaluate=EvaluateSettings(every=job.rounds, dense_start=False, nodes=1),
        attackers=job.attackers and job.attackers.among(stay),
        faults=None,  # they name nodes by their former numbers
        trial=None,  # of others than those who stay
    )
