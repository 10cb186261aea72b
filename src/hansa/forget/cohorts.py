"""Training some cohorts of a run again, without some of its data, and merging all of them anew.

Clients keep their ids, and random numbers are drawn by id, round and purpose. So a client that is
left out changes nothing for the others: a cohort without leavers that is kept is what training it
again would give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.data.dealing.cohorts import Cohorts
from hansa.data.dealing.given_cohorts import ABSENT, GivenCohorts
from hansa.engine import Algorithm, Block, Ending, Job, Outcome
from hansa.engine.exchange.asked import Exchange
from hansa.engine.runtimes.host import Host, Report
from hansa.engine.settings import EvaluateSettings
from hansa.engine.shelf import Shelf
from hansa.forget.federation import Federation

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


def reduced(federation: Federation) -> Reduced:
    """The run without what its past requests and the present one name.

    Raises:
        ConfigError: a cohort could not be trained with what it would be left with.
    """
    job, past = federation.job, federation.past
    members = _cohorted(job.algorithm).members(_trained(federation))
    dealt = np.where(members < 0, ABSENT, members - job.network.clients)
    cohort = _holders(dealt, federation.remaining(job.parts))
    before = _holders(dealt, federation.remaining(job.parts, past))
    loses = np.zeros(len(dealt), dtype=bool)
    for groups in (job.parts, job.held):
        then, now = federation.remaining(groups, past), federation.remaining(groups)
        for client, (old, new) in enumerate(zip(then, now, strict=True)):
            loses[client] |= len(old) != len(new)
    affected = np.unique(before[loses & (before >= 0)])
    held = federation.remaining(job.held)
    rule = GivenCohorts(members=tuple(cohort.tolist()))
    what_remains = Reduced(
        job=replace(
            job,
            parts=federation.remaining(job.parts),
            held=[h if c >= 0 else h[:0] for h, c in zip(held, cohort, strict=False)],
            algorithm=job.algorithm.model_copy(update={"cohorts": rule, "merge": "none"}),
            evaluate=EvaluateSettings(every=job.rounds, dense_start=False, nodes=1),
        ),
        cohort=cohort,
        affected=affected,
        dissolved=np.setdiff1d(affected, cohort),
    )
    _check(federation, what_remains)
    return what_remains


def train_again(
    federation: Federation, plan: Reduced, which: np.ndarray
) -> tuple[Tensor, dict[str, Any]]:
    """Train these cohorts from the initial model, and merge the models of all.

    The others keep what they have. ``federation.nodes`` becomes what all nodes have then.

    Returns:
        The merged model [D], and what there is to say about it.
    """
    job, old, ledger = plan.job, _trained(federation), federation.ledger
    block = job.block(np.arange(job.nodes))
    rule = _cohorted(job.algorithm)
    kept = np.setdiff1d(np.arange(job.servers), which)
    _copy(old, block, kept)
    rule.rest(block, kept)
    reports: list[Report] = []
    with ledger.phase("retraining"):
        if np.isin(which, plan.there).any():
            Host(job, block, Exchange(job.clock), reports.append, lambda b, done: None).run()
        else:  # all who were in them leave: only the last models are taken down
            block.outcome = _played(job.algorithm.finish(block, job.rounds - 1))
        for last in reports[-1:]:
            ledger.now.sample_gradients += int(last["counters"]["samples"].sum())
            ledger.now.bytes += int(last["counters"]["bytes_sent"].sum())
            ledger.now.rounds += int(last["round"])
    row = models = block.models()[1]
    story: dict[str, Any] = {
        "cohorts": job.servers,
        "trained_again": np.intersect1d(which, plan.there).tolist(),
        "dissolved": plan.dissolved.tolist(),
        "clients": int(np.isin(plan.cohort, which).sum()),
        "rounds": int(reports[-1]["round"]) if reports else 0,
    }
    if job.servers > 1:
        row, merged = _merge(federation, plan, block, models)
        story["merged"] = merged
    else:
        row = models[0].clone()
    _copy(old, block, kept)  # also what says that they had not stopped
    shelves = _shelves(old, block, plan.cohort, which)
    federation.nodes = replace(old, rows=block.rows, kept=block.kept, shelves=shelves)
    return row, story


def _merge(
    federation: Federation, plan: Reduced, block: Block, models: Tensor
) -> tuple[Tensor, dict[str, Any]]:
    """The cohorts' models [n, D] sent to the first server and merged as the run did it."""
    name = _cohorted(federation.job.algorithm).merge
    rule = _cohorted(plan.job.algorithm.model_copy(update={"merge": name}))
    block.events = []
    with federation.ledger.phase("distillation" if name == "distill" else "merging"):
        row = rule.merged(block, models)
        cost, figures = federation.ledger.now, {"how": name}
        sent = int((plan.there > 0).sum())
        cost.rounds += 1
        cost.bytes += sent * models.shape[1] * models.element_size()
        for event in block.events:
            figures |= {name: value for name, value in event.items() if name != "kind"}
            cost.sample_gradients += event["examples"] * event["epochs"]
            cost.sample_checks += event["examples"] * event["teachers"]  # their answers
    return row.clone(), figures


def _check(federation: Federation, plan: Reduced) -> None:
    """Refuse what the cohorts that are left could not be trained with."""
    job, request = plan.job, str(federation.request)
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


def _played(end: Ending) -> Outcome | None:
    """What the end of a run returns that asks for no exchange."""
    while True:
        try:
            next(end)
        except StopIteration as stop:
            outcome: Outcome | None = stop.value
            return outcome


def _copy(old: Block, block: Block, kept: np.ndarray) -> None:
    """Give the servers of cohorts what they had."""
    at = torch.from_numpy(kept)
    for name, whole in _whole(block):
        whole[at] = dict(_whole(old))[name][at].to(whole.device)


def _whole(block: Block) -> Iterator[tuple[str, Tensor]]:
    yield "", block.rows
    yield from block.kept.items()


def _shelves(old: Block, block: Block, cohort: np.ndarray, which: np.ndarray) -> dict[str, Shelf]:
    """What clients keep: that of cohorts that were trained again is new, leavers' is gone."""
    shelves: dict[str, Shelf] = {}
    again = np.flatnonzero(np.isin(cohort, which))
    same = np.flatnonzero((cohort >= 0) & ~np.isin(cohort, which))
    for source, clients in ((old, same), (block, again)):
        for name, shelf in source.shelves.items():
            ids, rows = shelf.all()
            at = np.flatnonzero(np.isin(ids, clients))
            shelves.setdefault(name, Shelf()).put(ids[at], rows[torch.from_numpy(at)])
    return shelves


def _cohorted(algorithm: Algorithm) -> InCohorts:
    assert isinstance(algorithm, InCohorts)  # the method's check saw to it
    return cast(InCohorts, algorithm)


def _trained(federation: Federation) -> Block:
    assert federation.trained is not None
    return federation.trained
