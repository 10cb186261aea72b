"""A made-up run of servers and clients, with known moments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hansa.report import RunFolder

DONE, LATE, FAILED, SURPLUS = 0, 1, 3, 4


def make(
    path: Path, *, clients=30, servers=1, rounds=6, sampled=10, timed=True, merged=False, every=1
) -> RunFolder:
    """Client c is invited by server c % servers and takes 1 + 10 + 2 seconds times its pace.

    The deadline is 30 seconds, the first of every round fails, and every server waits 30 seconds.
    """
    run = RunFolder.create(path, {"algorithm": {"name": "avg"}, "nodes": clients}, {})
    rng = np.random.default_rng(0)
    pace, ids = np.linspace(0.5, 3.5, clients), np.arange(clients)
    hosts, everyone = clients + np.arange(servers), np.arange(clients + servers)
    scale = 1.0 if timed else 0.0
    computed, sent = np.zeros(clients + servers), np.zeros(clients + servers)
    for t in range(1, rounds + 1):
        who = np.sort(rng.choice(ids, sampled, replace=False))
        start = np.full(sampled, 30.0 * (t - 1)) * scale
        parts = np.cumsum([np.ones(sampled), 10 * np.ones(sampled), 2 * np.ones(sampled)], axis=0)
        heard, trained, end = start + parts * pace[who] * scale
        outcome = np.where(end - start > 30, LATE, DONE)
        outcome[0] = FAILED
        stop = start + 30 * scale
        moments = {"heard": heard, "trained": trained, "end": end}
        moments = {name: np.minimum(value, stop) for name, value in moments.items()}
        moments |= {"start": start, "outcome": outcome, "server": clients + who % servers}
        whole = {"time": 0.5 * t, "bytes": int(sent.sum())}
        for name, value in moments.items():
            run.record(t, f"client_{name}", value, node=who, time=0.5 * t)
        computed[who] += moments["trained"] - heard.clip(max=moments["trained"])
        sent[who] += 1000
        sent[clients:] += 4000
        run.record(t, "idle_time", 5.0 * scale, **whole)
        run.record(t, "round_time", 30.0 * scale, **whole)
        run.record(t, "invited", float(sampled) / servers, **whole)
        if t % every and t < rounds:
            continue
        run.record(t, "round_time", np.full(servers, 30.0) * scale, node=hosts, **whole)
        now = np.concatenate([np.full(clients, 1000.0), np.full(servers, 30.0 * t)]) * scale
        spent = {"bytes_sent": sent, "modelled_time": now, "compute_time": computed}
        spent |= {"energy": 2 * computed, "transfer_time": 3.0 * (everyone < clients)}
        for name, value in spent.items():
            run.record(t, name, value, node=everyone, time=0.5 * t)
        last = merged and t == rounds
        score = 1 - 1 / (1 + t + np.arange(servers))
        shown = slice(0, 1 if last else servers)
        run.record(t, "accuracy", score[shown] / (1 + last), node=hosts[shown], time=0.5 * t)
        run.record(t, "loss", 1 - score[shown], node=hosts[shown], time=0.5 * t)
        if last:
            run.record(t, "cohort_accuracy", score, node=hosts, time=0.5 * t)
    sizes = rng.integers(10, 50, clients)
    run.write_json("partition.json", {"sizes": sizes, "servers": servers})
    run.event("round_failed", round=1, server=clients)
    run.finish({"status": "finished", "nodes": clients, "seconds": 0.5 * rounds})
    return run


@pytest.fixture
def federated(tmp_path) -> Callable[..., RunFolder]:
    """Makes such runs, each in a folder of its own."""
    number = iter(range(100))
    return lambda **settings: make(tmp_path / f"run-{next(number)}", **settings)
