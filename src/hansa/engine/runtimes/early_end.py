"""Whether a run ends with a round: all blocks are asked, and come to the same answer."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from hansa.base.errors import RunError
from hansa.engine.block import Block
from hansa.engine.exchange.exchange import Share
from hansa.engine.job import Job
from hansa.engine.own_judge import Tallies
from hansa.engine.until import MARK, UntilSettings, memory
from hansa.report.units import amount, label, quantity

_WHOLE = 1e9  # parts of a joule: sums of whole numbers are the same in any order
_CLIENTS, _OWN = "clients.", "own"


def ask(job: Job, block: Block, measured: dict[str, Any] | None) -> Share | None:
    """What blocks tell each other after a round; None: nothing has changed that ends a run.

    Args:
        measured: of :func:`hansa.engine.runtimes.measuring.measure`, in rounds that measure.
    """
    until, said = job.until, dict[str, np.ndarray]()
    if until is None:
        return None
    if until.bytes is not None:
        said["bytes"] = np.array([int(block.state["bytes_sent"].sum())])
    if until.seconds is not None:
        times, serves = block.state["modelled_time"].numpy(), block.ids >= block.clients
        for name, own in (("seconds", times[~serves]), ("server_seconds", times[serves])):
            said[name] = own.max(keepdims=True) if len(own) else np.zeros(0)
    if until.joules is not None:
        spent = np.rint(block.state["energy"].numpy() * _WHOLE).astype(np.int64)
        said["joules"] = np.array([spent.sum()])
    if until.watches and measured is not None:
        said |= _figures_here(_name(job, until), block, measured)
    return Share(said) if said else None


def verdict(job: Job, block: Block, told: dict[str, np.ndarray]) -> str:
    """Why the run ends, of what all blocks told; empty: it goes on.

    Raises:
        RunError: the metric was not measured.
    """
    until = job.until
    assert until is not None
    if until.bytes is not None and (sent := int(told["bytes"].sum())) >= until.bytes:
        return f"{amount(sent, 'B')} were sent {MARK}bytes: {amount(until.bytes, 'B')})"
    if until.seconds is not None:
        servers = told["server_seconds"]
        passed = float((servers if len(servers) else told["seconds"]).max())
        if passed >= until.seconds:
            allowed = amount(until.seconds, "s")
            return f"{amount(passed, 's')} of modelled time had passed {MARK}seconds: {allowed})"
    if until.joules is not None and (spent := int(told["joules"].sum()) / _WHOLE) >= until.joules:
        return f"{amount(spent, 'J')} were spent {MARK}joules: {amount(until.joules, 'J')})"
    return _of_figure(job, until, block, told) if "ids" in told else ""


def _of_figure(job: Job, until: UntilSettings, block: Block, told: dict[str, np.ndarray]) -> str:
    name = _name(job, until)
    value = _figure(name, job, told)
    if value is None:
        problem = f"until.metric: {name} is not measured; name one that the run's tables have"
        raise RunError(problem, phase="evaluation", repeats=True)
    sign = 1.0 if until.better(name, job.metrics, job.evaluate) == "higher" else -1.0
    if until.reaches is not None and sign * value >= sign * until.reaches:
        goal = quantity(until.reaches, name)
        return f"{label(name)} came to {quantity(value, name)} {MARK}reaches: {goal})"
    if until.patience is None:
        return ""
    of_best, of_waited = memory(name)
    best, waited = block.state[of_best][0].item(), int(block.state[of_waited][0])
    better = math.isnan(best) or sign * value > sign * best + until.min_delta
    better &= not math.isnan(value)
    waited = 0 if better else waited + 1
    block.state[of_waited].fill_(waited)
    if better:
        block.state[of_best].fill_(value)
    if waited < until.patience:
        return ""
    times = "an evaluation" if until.patience == 1 else f"{until.patience} evaluations"
    known = "" if math.isnan(best) else f" than {quantity(best, name)}"
    return f"{label(name)} had not become better{known} for {times} {MARK}patience)"


def _name(job: Job, until: UntilSettings) -> str:
    return until.figure(job.metrics, job.evaluate, job.dataset)


def _figures_here(name: str, block: Block, measured: dict[str, Any]) -> dict[str, np.ndarray]:
    """What this block has of a figure: of each of its nodes, and of clients' own examples."""
    none = np.full(len(block), np.nan)
    values = np.asarray(measured["values"].get(name, none), dtype=np.float64)
    said = {"ids": block.ids, "values": values}
    if "clients" in measured:
        ids, by_name = measured["clients"]
        said[f"{_CLIENTS}ids"] = ids
        own = by_name.get(name.removesuffix("_per_client"), np.full(len(ids), np.nan))
        said[f"{_CLIENTS}values"] = np.asarray(own, dtype=np.float64)
    if "own" in measured:  # by names that a block without such clients does not know
        ids, sums, counts = measured["own"]
        facts = {"ids": ids.tolist(), "sums": _lists(sums), "counts": _lists(counts)}
        text = json.dumps(facts).encode()
        said[_OWN] = np.frombuffer(text, dtype=np.uint8)
        said[f"{_OWN}.length"] = np.array([len(text)])
    return said


def _figure(name: str, job: Job, told: dict[str, np.ndarray]) -> float | None:
    """The run's figure, as its tables have it; None: it has none of this name."""
    order = np.argsort(told["ids"])
    ids, values = told["ids"][order], told["values"][order]
    if not np.isnan(values).all():
        return float(np.nanmean(values))
    if f"{_CLIENTS}ids" in told and name.endswith("_per_client"):
        own = told[f"{_CLIENTS}values"][np.argsort(told[f"{_CLIENTS}ids"])]
        own = own[~np.isnan(own)]
        return float(np.nanmean(own)) if len(own) else math.nan
    if job.evaluate.own is None or _OWN not in told:
        return math.nan
    tallies = _tallies(told, ids)
    if not tallies.sums:
        return math.nan
    figures = job.evaluate.own.figures(tallies)
    if name in figures:
        return float(figures[name])
    by_node = job.evaluate.own.by_node(tallies).get(name)
    return None if by_node is None else float(np.nanmean(by_node))


def _tallies(told: dict[str, np.ndarray], ids: np.ndarray) -> Tallies:
    """Those of all blocks, in the order of the nodes."""
    ends = np.cumsum(told[f"{_OWN}.length"])[:-1]
    sums: dict[str, np.ndarray] = {}
    counts: dict[str, np.ndarray] = {}
    for part in np.split(told[_OWN], ends):
        facts = json.loads(part.tobytes())
        at = np.searchsorted(ids, facts["ids"])
        for name, values in facts["sums"].items():
            sums.setdefault(name, np.full(len(ids), np.nan))[at] = values
        for name, values in facts["counts"].items():
            array = np.array(values, dtype=np.int64)
            counts[name] = counts[name] + array if name in counts else array
    return Tallies(sums, counts)


def _lists(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: np.asarray(array).tolist() for name, array in arrays.items()}
