"""The oracle: the run once more from its initial model, without what is to be forgotten.

In a run with cohorts all clients keep their ids and cohorts. In others those who have nothing left
are not part of it, so that the ids behind theirs move up, and with them the random numbers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.engine import Job, Network
from hansa.engine.exchange.asked import Exchange
from hansa.engine.runtimes.host import Host, Report
from hansa.engine.settings import EvaluateSettings
from hansa.forget.cohorts import InCohorts, reduced, train_again
from hansa.forget.federation import Federation
from hansa.forget.method import Forgetting
from hansa.forget.request import Level

if TYPE_CHECKING:
    from torch import Tensor


@register("retrain")
class Retrain(Forgetting):
    """Train again without it: exact, and what all others are measured by."""

    levels: ClassVar[tuple[Level, ...]] = ("class", "client", "sample")

    exact: ClassVar[bool] = True
    several_servers: ClassVar[bool] = True

    def check(self, federation: Federation) -> None:
        super().check(federation)
        if isinstance(federation.job.algorithm, InCohorts):
            reduced(federation)
            return
        try:  # clients are left with fewer examples than in training
            without(federation).tried  # noqa: B018 - for its errors
        except ConfigError as error:
            if error.field:
                raise
            fix = "--method sga, or a run with another train.batch_size or train.drop_last: true"
            raise ConfigError("method", "retrain", error.problem, fix) from error

    def forget(self, federation: Federation) -> tuple[Tensor, dict[str, Any]]:
        if isinstance(federation.job.algorithm, InCohorts):
            plan = reduced(federation)
            return train_again(federation, plan, np.arange(plan.job.servers))
        job = without(federation)
        with federation.ledger.phase("retraining"):
            row, last = trained(job)
        counters = last["counters"]
        cost = federation.ledger.phases["retraining"]
        cost.sample_gradients += int(counters["samples"].sum())
        cost.bytes += int(counters["bytes_sent"].sum())
        cost.rounds += int(last["round"])
        return row, {"clients": job.network.clients}


def without(federation: Federation) -> Job:
    """The run with what remains: clients with nothing left are not part of it."""
    job = federation.job
    remaining = federation.remaining(job.parts)
    stay = [client for client, part in enumerate(remaining) if len(part)]
    parts, held = [remaining[c] for c in stay], federation.remaining(job.held)
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
    )


def trained(job: Job) -> tuple[Tensor, Report]:
    """(the server's model [D] at the end of a job, its last report)."""
    job.__dict__.pop("roster", None)
    block = job.block(np.arange(job.nodes))
    reports: list[Report] = []
    Host(job, block, Exchange(job.clock), reports.append, lambda b, done: None).run()
    return block.models()[1][0].clone(), reports[-1]
