"""Runs of the audit verb: ledgers, answers, findings, a page.

::

    config.yaml, environment.json, events.jsonl, summary.json, report.html   as of any run
    ledger/00.jsonl ...   what each agent asked and heard, written before each call (ledger.py)
    plan.json             what was expected before anything was asked
    audit.json            findings, groups, the platform's consistency
    metricframe.json      the same in the shape of fairlearn's MetricFrame, by attribute

An audit that was ended in the middle, by whatever, is resumed from its ledgers: queries are the
same for the same seed, so those that are in a ledger are not asked again.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hansa.audit.asking import Asking
from hansa.audit.audit_file import AuditFile
from hansa.audit.black_box import LOST, REFUSED
from hansa.audit.consistency import Consistency, compare
from hansa.audit.ledger import Ledger
from hansa.audit.pooling import lied
from hansa.audit.population import Asked
from hansa.audit.preparing import Prepared, planned_facts, population_digest, prepare
from hansa.audit.results import audited_cells, estimates, results
from hansa.audit.sharing import encode_rows, outcome_cells, told, varints
from hansa.base.errors import CheckpointError, ConfigError, HansaWarning, RunError
from hansa.base.streams import Streams
from hansa.experiment.environment import describe_machine
from hansa.experiment.hosting import Hosting, begun, hosted, placed, reopened
from hansa.report.folder import RunFolder, plain

PLAN, AUDIT, FRAMES, LEDGERS = "plan.json", "audit.json", "metricframe.json", "ledger"
Say = Callable[[str], None]
_TENTHS = 10


def audit(
    settings: AuditFile | Mapping[str, Any],
    out: str | Path | None = None,
    say: Say = lambda text: None,
    report: bool = True,
) -> RunFolder:
    """Ask a platform within budgets, and say what was found.

    Args:
        settings: the file, or its content.
        out: the run folder; by default a new one under ``runs/``.
        say: is told how far it is.
        report: write the page at the end.

    Raises:
        ConfigError: a setting that cannot work, before any query is spent.
        DataError: the population's files are missing or damaged.
        RunError: the platform does not answer; what was asked is kept, and it can be resumed.
    """
    chosen = settings if isinstance(settings, AuditFile) else AuditFile.parse(settings)
    with placed(chosen, out) as path:
        prepared = prepare(chosen)
        environment = describe_machine(chosen.seed) | {
            "audited": {
                "population": population_digest(prepared.population),
                "box": chosen.box.identity(),
            }
        }
        with begun(path, chosen, environment, report) as hosting:
            hosting.folder.write_json(PLAN, planned_facts(prepared))
            _work(hosting, prepared, _ledgers(hosting.folder, prepared), say)
        return hosting.folder


def resume(
    run: str | Path,
    changes: Mapping[str, Any] | None = None,
    say: Say = lambda text: None,
    report: bool = True,
) -> RunFolder:
    """Go on with an audit that was ended before its end; nothing is asked twice.

    Args:
        run: its folder.
        changes: how the platform is asked may change (pace, patience, accounts), nothing else.
        say: is told how far it is.
        report: write the page at the end.

    Raises:
        CheckpointError: the folder is no audit's, or a ledger was changed.
        ConfigError: the audit has finished, or a setting or a file is another than it was.
    """
    with reopened(run, AuditFile, changes) as again:
        folder = again.folder
        prepared = prepare(again.settings)
        _check_same(folder, prepared)
        ledgers = _ledgers(folder, prepared)
        again.enter()
        with hosted(folder, "audit", report) as hosting:
            _work(hosting, prepared, ledgers, say)
        return folder


def _check_same(folder: RunFolder, prepared: Prepared) -> None:
    """Refuse another population or platform than the audit was begun with."""
    before = folder.environment.get("audited") or {}
    fix = f"put back what {folder.path} was begun with, or begin a new audit"
    if before.get("population") != population_digest(prepared.population):
        problem = "is not the population that the audit was begun with"
        raise ConfigError("population", None, problem, fix)
    now, then = plain(prepared.settings.box.identity()), before.get("box") or {}
    for field in {**now, **then}:
        if now.get(field) != then.get(field):
            problem = "is another than the audit was begun with"
            raise ConfigError(f"box.{field}", None, problem, fix)


@dataclass
class Exchange:
    """What agents told each other: bytes sent by each, and the counts they know of each other."""

    sent: np.ndarray
    counts: list[np.ndarray]


def _work(hosting: Hosting, prepared: Prepared, ledgers: list[Ledger], say: Say) -> None:
    """Ask what is left, compare, estimate, and write what was found."""
    folder, settings, start = hosting.folder, prepared.settings, time.monotonic()
    facts: dict[str, Any] = {}
    hosting.facts = lambda: {
        "agents": len(ledgers),
        "strategy": prepared.strategy.name,
        "spent": {ledger.agent: ledger.spent for ledger in ledgers},
        "heads": {ledger.agent: ledger.head for ledger in ledgers},
        "seconds": time.monotonic() - start,
        **facts,
    }
    budget = sum(agent.budget for agent in prepared.agents)
    asking = Asking(settings.box, prepared.ask, ledgers, _progress(say, budget))
    say(f"{prepared.strategy.name}: {budget} queries by {len(ledgers)} agents")
    heard, exchange = _asked(prepared, asking)
    checks = _cross_check(prepared, asking, heard)
    consistency = _compared(prepared, heard, checks, exchange)
    if consistency.differ and settings.on_change == "stop":
        rows = ", ".join(str(row) for row in consistency.rows[:3])
        problem = f"the platform changes its answers, as about members {rows}"
        raise RunError(f"{problem} (on_change: stop)", repeats=True)
    reports = [_reported(prepared, k, one) for k, one in enumerate(heard)]
    made = estimates(prepared, reports, exchange.counts)
    spent = [ledger.spent for ledger in ledgers]
    found = results(prepared, made, [len(one.rows) for one in heard], consistency)
    found["agents"] = [
        {
            "agent": agent.name,
            "attribute": attribute.name,
            "budget": agent.budget,
            "spent": ledger.spent,
            "refused": ledger.count(REFUSED),
            "lost": ledger.count(LOST),
            "calls": ledger.calls,
            "again": ledger.again,
            "checks": len(check.rows),
            "bytes_sent": int(sent),
            "head": ledger.head,
        }
        for agent, attribute, ledger, check, sent in zip(
            prepared.agents, prepared.attributes, ledgers, checks, exchange.sent, strict=True
        )
    ]
    folder.write_json(AUDIT, found)
    folder.write_json(FRAMES, found["frames"])
    seconds = time.monotonic() - start
    for name, values in (("queries", spent), ("refused", [a["refused"] for a in found["agents"]])):
        folder.record(1, name, np.array(values, dtype=float), node=np.arange(len(spent)))
    folder.record(
        1, "bytes_sent", exchange.sent.astype(float), node=np.arange(len(spent)), time=seconds
    )
    facts["bytes_sent"] = int(exchange.sent.sum())
    facts["final"] = {
        "findings": found["findings"],
        "queries": dict(zip(prepared.names, spent, strict=True)),
        "bytes_sent": dict(zip(prepared.names, exchange.sent.tolist(), strict=True)),
        "platform": consistency.verdict,
    }


def _ledgers(folder: RunFolder, prepared: Prepared) -> list[Ledger]:
    """The agents' ledgers, new or as they are."""
    heads = (folder.summary or {}).get("heads") or {}
    ledgers = []
    for place, agent in enumerate(prepared.agents):
        path = folder.path / LEDGERS / f"{place:02d}.jsonl"
        ledger = Ledger.opened(path, agent.name, agent.budget, prepared.identity(agent))
        if ledger.set_aside is not None:
            text = f"the last line of {path.name} was cut short and is in {ledger.set_aside.name}"
            folder.event("warning", text=text)
            warnings.warn(HansaWarning(text), stacklevel=3)
        if (head := heads.get(agent.name)) and not ledger.holds(head):
            problem = (
                "lacks lines that it had when the audit was ended; queries would be spent twice"
            )
            raise CheckpointError(f"{path}: {problem}")
        ledgers.append(ledger)
    return ledgers


def _progress(say: Say, budget: int) -> Callable[[int], None]:
    """Says each tenth of the budget that is spent."""
    said = [0]

    def tell(spent: int) -> None:
        tenth = spent * _TENTHS // budget
        if tenth > said[0]:
            said[0] = tenth
            say(f"{spent} of {budget} queries")

    return tell


def _asked(prepared: Prepared, asking: Asking) -> tuple[list[Asked], Exchange]:
    """Follow the strategy to its end: what each agent heard, and what they told each other."""
    settings, strategy, m = prepared.settings, prepared.strategy, len(prepared.agents)
    cells, count = outcome_cells(prepared.population, audited_cells(prepared))
    exchange = Exchange(np.zeros(m, dtype=np.int64), [])
    rows: list[list[np.ndarray]] = [[] for _ in range(m)]
    answers: list[list[np.ndarray]] = [[] for _ in range(m)]
    script = strategy.queries(prepared.population, prepared.planned, Streams(settings.seed))
    wanted = next(script)
    while True:
        stage = [Asked(r, a) for r, a in zip(wanted, asking(wanted), strict=True)]
        for k, one in enumerate(stage):
            rows[k].append(one.rows)
            answers[k].append(one.answers)
        reports = [_reported(prepared, k, one) for k, one in enumerate(stage)]
        if strategy.collaboration == "a_priori":
            _tell(exchange, settings.sharing, cells, count, reports)
        try:
            wanted = script.send([one.answers for one in reports])
        except StopIteration:
            break
    heard = [
        Asked(np.concatenate(r), np.concatenate(a)) for r, a in zip(rows, answers, strict=True)
    ]
    if strategy.collaboration == "a_posteriori":
        reports = [_reported(prepared, k, one) for k, one in enumerate(heard)]
        _tell(exchange, settings.sharing, cells, count, reports)
    return heard, exchange


def _tell(
    exchange: Exchange, sharing: str, cells: np.ndarray, count: int, reports: Sequence[Asked]
) -> None:
    counts, sent = told(sharing, cells, count, reports)
    exchange.sent += sent
    before = exchange.counts or [np.zeros_like(one) for one in counts]
    exchange.counts = [a + b for a, b in zip(before, counts, strict=True)]


def _reported(prepared: Prepared, place: int, heard: Asked) -> Asked:
    """What an agent says that it heard."""
    liars = prepared.settings.liars
    if liars.attack == "none" or prepared.names[place] not in liars.agents:
        return heard
    return lied(heard, liars.attack)


def _cross_check(prepared: Prepared, asking: Asking, heard: Sequence[Asked]) -> list[Asked]:
    """Each agent asks some of what the next one asked."""
    m, streams = len(heard), Streams(prepared.settings.seed)
    wanted = []
    for k in range(m):
        room = prepared.agents[k].budget - prepared.planned[k].budget
        able = np.setdiff1d(heard[(k + 1) % m].rows, heard[k].rows)
        drawn = streams.numpy("audit.cross_check", node=k).permutation(able)
        wanted.append(drawn[:room].astype(np.int64))
    return [Asked(r, a) for r, a in zip(wanted, asking(wanted), strict=True)]


def _compared(
    prepared: Prepared, heard: Sequence[Asked], checks: Sequence[Asked], exchange: Exchange
) -> Consistency:
    """Compare what several agents asked, as far as they tell each other."""
    m = len(heard)
    rows_told = prepared.settings.sharing == "rows"
    rows_told &= prepared.strategy.collaboration != "none"
    known = []
    for k in range(m):
        own = heard[k]
        if not rows_told:  # only what the one before asked, too
            both = np.isin(own.rows, checks[(k - 1) % m].rows)
            own = Asked(own.rows[both], own.answers[both])
        both_asked = Asked(
            np.concatenate([own.rows, checks[k].rows]),
            np.concatenate([own.answers, checks[k].answers]),
        )
        known.append(_reported(prepared, k, both_asked))
        if len(checks[k].rows):  # the next one names rows, and is told what was heard
            exchange.sent[(k + 1) % m] += len(varints(np.sort(checks[k].rows)))
            exchange.sent[k] += len(encode_rows(_reported(prepared, k, checks[k])))
    return compare(prepared.names, known, prepared.settings.confidence)
