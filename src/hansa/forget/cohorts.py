"""Training some cohorts of a run again, without some of its data, and merging all of them anew.

Clients keep their ids, and random numbers are drawn by id, round and purpose. So a client that is
left out changes nothing for the others: a cohort without leavers that is kept is what training it
again would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np

from hansa.base.errors import ConfigError
from hansa.data.dealing.cohorts import Cohorts
from hansa.data.dealing.given_cohorts import ABSENT, GivenCohorts
from hansa.engine import Algorithm, Block, Job
from hansa.engine.settings import EvaluateSettings
from hansa.experiment.played import HERE, Place
from hansa.forget.again import Again, InPart, train
from hansa.forget.case import Case
from hansa.forget.ledger import Ledger

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class InCohorts(Protocol):
    """What an algorithm has besides, whose clients learn in cohorts with a server each."""

    cohorts: Cohorts
    merge: str

    def members(self, block: Block) -> np.ndarray:
        """int64 [clients]: the id of each client's server; -1 for those that take no part."""

    def rest(self, block: Block, cohorts: np.ndarray) -> None:
        """Let these cohorts do nothing."""

    def merged(self, block: Block, models: Tensor) -> Tensor:
        """One model [D] of the cohorts' [n, D]; those without clients have no say."""


@dataclass(frozen=True)
class Reduced:
    """A run without what was and is to be forgotten.

    Attributes:
        job: the run, its cohorts listed, without a merge at its end.
        cohort: int64 [clients], the cohort of each client; -1 for those with nothing left.
        affected: numbers of the cohorts that lose data with this request, ascending.
        dissolved: those of them that lose their last client, ascending.
    """

    job: Job
    cohort: np.ndarray
    affected: np.ndarray
    dissolved: np.ndarray

    @property
    def there(self) -> np.ndarray:
        """Numbers of the cohorts that have a client, ascending."""
        return np.unique(self.cohort[self.cohort >= 0])


def reduced(case: Case) -> Reduced:
    """The run without what its past requests and the present one name.

    Raises:
        ConfigError: a cohort could not be trained with what it would be left with.
    """
    job, past = case.job, case.past
    members = _cohorted(job.algorithm).members(case.server)
    dealt = np.where(members < 0, ABSENT, members - job.network.clients)
    cohort = _holders(dealt, case.remaining(job.parts))
    before = _holders(dealt, case.remaining(job.parts, past))
    loses = np.zeros(len(dealt), dtype=bool)
    for groups in (job.parts, job.held):
        then, now = case.remaining(groups, past), case.remaining(groups)
        for client, (old, new) in enumerate(zip(then, now, strict=True)):
            loses[client] |= len(old) != len(new)
    affected = np.unique(before[loses & (before >= 0)])
    held = case.remaining(job.held)
    rule = GivenCohorts(members=tuple(cohort.tolist()))
    what_remains = Reduced(
        job=replace(
            job,
            parts=case.remaining(job.parts),
            held=[h if c >= 0 else h[:0] for h, c in zip(held, cohort, strict=False)],
            algorithm=job.algorithm.model_copy(update={"cohorts": rule, "merge": "none"}),
            evaluate=EvaluateSettings(every=job.rounds, dense_start=False, nodes=1),
        ),
        cohort=cohort,
        affected=affected,
        dissolved=np.setdiff1d(affected, cohort),
    )
    _check(case, what_remains)
    return what_remains


def train_again(
    case: Case,
    plan: Reduced,
    which: np.ndarray,
    folder: Path,
    place: Place = HERE,
) -> Again:
    """Train these cohorts from the initial model, and merge the models of all.

    The others keep what they have.

    Args:
        folder: where the training is written down.
        place: where the nodes live.
    """
    job, ledger = plan.job, Ledger()
    trained = np.intersect1d(which, plan.there)
    same = np.flatnonzero((plan.cohort >= 0) & ~np.isin(plan.cohort, which))
    part = InPart(algorithm=job.algorithm, again=tuple(which.tolist()), keep=tuple(same.tolist()))
    server, end = train(
        replace(job, algorithm=part), folder, ledger, place=place,
        checkpoint=case.checkpoint,
    )  # fmt: skip
    cost = ledger.phases["retraining"]
    if not len(trained):  # all who were in them leave: only the last models were taken down
        cost.rounds = 0
    row = models = server.models()[1]
    story: dict[str, Any] = {
        "cohorts": job.servers,
        "trained_again": trained.tolist(),
        "dissolved": plan.dissolved.tolist(),
        "clients": int(np.isin(plan.cohort, which).sum()),
        "rounds": cost.rounds,
    }
    if job.servers > 1:
        row, merged = _merge(case, plan, server, models, ledger)
        story["merged"] = merged
    else:
        row = models[0].clone()
    return Again(row, story, ledger, end)


def _merge(
    case: Case, plan: Reduced, block: Block, models: Tensor, ledger: Ledger
) -> tuple[Tensor, dict[str, Any]]:
    """The cohorts' models [n, D] sent to the first server and merged as the run did it."""
    name = _cohorted(case.job.algorithm).merge
    method = plan.job.algorithm.model_copy(update={"merge": name})
    rule = _cohorted(method)
    # Training anew asked for no labels, which the merge may weigh classes by.
    block = replace(block, events=[], roster=replace(plan.job, algorithm=method).roster)
    with ledger.phase("distillation" if name == "distill" else "merging"):
        row = rule.merged(block, models)
        cost, figures = ledger.now, {"how": name}
        sent = int((plan.there > 0).sum())
        cost.rounds += 1
        cost.bytes += sent * models.shape[1] * models.element_size()
        for event in block.events:
            figures |= {name: value for name, value in event.items() if name != "kind"}
            cost.sample_gradients += event["examples"] * event["epochs"]
            cost.sample_checks += event["examples"] * event["teachers"]  # their answers
    return row.clone(), figures


def _check(case: Case, plan: Reduced) -> None:
    """Refuse what the cohorts that are left could not be trained with."""
    job, request = plan.job, str(case.request)
    sizes = np.array([len(part) for part in job.parts])[plan.cohort >= 0]
    if job.train.drop_last and sizes.min() < job.train.batch_size:
        raise ConfigError(
            "request",
            request,
            f"a client is left with {sizes.min()} examples, less than one batch of "
            f"{job.train.batch_size}, and the run leaves smaller ones out",
            "forget the whole client, or a run with train.drop_last: false",
        )
    crew = np.bincount(plan.cohort[plan.cohort >= 0], minlength=job.servers)
    least = int(getattr(job.algorithm, "min_updates", 1))
    small = [k for k in np.intersect1d(plan.affected, plan.there) if crew[k] < least]
    if small:
        problem = f"cohort {small[0]} is left with {crew[small[0]]} clients, and a round needs "
        problem += f"algorithm.min_updates, {least}"
        raise ConfigError("request", request, problem, "forget the others of that cohort as well")
    try:
        job.block(np.array([0, job.nodes - 1])).trainer.close()
    except ConfigError as error:
        fix = "forget the others of that cohort as well, or begin a new run without them"
        raise ConfigError("request", request, f"what is left {error.problem}", fix) from None


def _holders(cohort: np.ndarray, parts: Sequence[np.ndarray]) -> np.ndarray:
    """The cohort of each client [m]; -1 where it has nothing."""
    return np.where([len(part) > 0 for part in parts], cohort, ABSENT)


def _cohorted(algorithm: Algorithm) -> InCohorts:
    assert isinstance(algorithm, InCohorts)  # the method's check saw to it
    return cast(InCohorts, algorithm)
