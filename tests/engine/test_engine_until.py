"""Budgets and early stopping: every algorithm ends with the same round wherever its nodes live."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.engine import Job
from hansa.engine.runtimes.runtime import split_nodes
from hansa.engine.until import UntilSettings
from hansa.experiment import resume, run
from hansa.experiment.runfile import RunFile
from hansa.report import RunFolder

from .apart import in_order, parties_of, play_apart

CLOCK = {"clock": {"name": "modelled", "spread": 0.8, "sample_seconds": 0.01}}
NEEDS: dict[str, dict[str, Any]] = {
    "cpfl": {
        "algorithm": {"cohorts": 2, "stop": None, "distillation": {"epochs": 1}},
        "data": {"name": "digits", "public": 0.05},
        "evaluate": {"every": 1, "local_validation": 0.1},
    },
    "fedbuff": {"algorithm": {"concurrency": 4, "buffer": 3}},
    "greedy": {"algorithm": {"budget": 4}},
    "skiptrain_constrained": {"algorithm": {"budget": 4}},
    "secure_dpsgd": {"algorithm": {"keys": "seeded"}},
    "scalefl": {"algorithm": {"widths": [1.0], "shares": [1.0]}},
}
ALONE = ("adpsgd", "fedbuff")  # between workers the sockets say what comes when
ALGORITHMS = sorted(
    name
    for name, method in catalogue("algorithm").items()
    if method.__module__.startswith("hansa.learn.") and name != "quickdrop"
)
ROUNDS = 4
WHAT = ("bytes", "seconds", "joules", "reaches")


def made(make_job: Callable[..., Job], name: str, rounds: int = ROUNDS) -> Job:
    own = {**CLOCK, **NEEDS.get(name, {})}
    algorithm = {"name": name, **own.pop("algorithm", {})}
    return make_job({"evaluate": {"every": 1}, "algorithm": algorithm, "rounds": rounds, **own})


def spent(job: Job, reports: list[dict[str, Any]], what: str) -> list[float]:
    """What a run had come to after each of its rounds, from its reports."""
    came = []
    for report in reports:
        counters = report["counters"]
        if what == "bytes":
            came.append(float(counters["bytes_sent"].sum()))
        elif what == "joules":
            came.append(math.fsum(counters["energy"]))
        elif what == "seconds":
            hosts = counters["modelled_time"]
            came.append(float(hosts[job.network.clients :].max() if job.servers else hosts.max()))
        else:
            came.append(float(np.nanmean(report["measured"]["values"]["accuracy"])))
    return came


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_ends_with_the_round_that_comes_to_it(
    make_job: Callable[..., Job], host: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    job = made(make_job, name)
    every = host(job)[1]
    what = WHAT[ALGORITHMS.index(name) % len(WHAT)]
    came = spent(job, every, what)
    if len(every) < ROUNDS or not came[1]:
        what, came = "seconds", spent(job, every, "seconds")
    budget = came[1]
    due = next(k for k, value in enumerate(came, start=1) if value >= budget)
    until = UntilSettings.model_validate({what: budget})
    block, reports = host(replace(made(make_job, name), until=until))
    assert len(reports) == due
    assert f"(until.{what}: " in block.outcome.reason
    # It is the run that had been asked for so many rounds.
    shorter, _ = host(made(make_job, name, due))
    assert torch.equal(block.rows, shorter.rows)
    assert block.outcome.which == shorter.outcome.which
    for key, value in shorter.state.items():
        assert torch.equal(block.state[key], value), key
    if name in ALONE:
        return
    apart = replace(made(make_job, name), until=until)
    groups = split_nodes(apart.nodes, 3, apart.servers)
    blocks = play_apart(parties_of(apart, tmp_path, groups), groups)[0]
    assert {one.outcome.reason for one in blocks} == {block.outcome.reason}
    assert torch.equal(in_order(blocks).rows, block.rows)


def watched(until: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "nodes": 4,
        "rounds": 12,
        "topology": "ring",
        "model": {"name": "mlp", "hidden": [8]},
        "train": {"local_steps": 1, "optimizer": {"lr": 0.05}},
        "evaluate": {"every": 1},
        "checkpoint": {"every": 1},
        "until": until,
        **more,
    }


def accuracies(folder: RunFolder, name: str = "accuracy") -> list[float]:
    frame = folder.metrics()
    every = frame.filter((frame["name"] == name) & (frame["round"] > 0)).sort("round", "node")
    return (
        every.group_by("round", maintain_order=True).agg(pl.col("value").mean())["value"].to_list()
    )


def patient(values: list[float], patience: int, delta: float) -> int | None:
    """The round after which somebody as patient gives up, by hand."""
    best, waited = -math.inf, 0
    for k, value in enumerate(values, start=1):
        if value > best + (delta if k > 1 else 0.0):
            best, waited = value, 0
        else:
            waited += 1
        if waited == patience:
            return k
    return None


PATIENCE = {"metric": "accuracy", "patience": 2, "min_delta": 0.04}


def test_patience_ends_a_run_that_gets_no_better(tmp_path: Path) -> None:
    whole = run(watched({"bytes": 10**12}), tmp_path / "whole", report=False)
    due = patient(accuracies(whole), 2, 0.04)
    assert due is not None
    assert due < 12
    folder = run(watched(PATIENCE), tmp_path / "run")
    summary = folder.summary or {}
    assert (summary["status"], summary["rounds"]) == ("finished", due)
    assert "accuracy had not become better than" in summary["ended"]
    assert accuracies(folder) == accuracies(whole)[:due]
    page = (folder.path / "report.html").read_text(encoding="utf-8")
    assert "stopped early" in page
    assert "for 2 evaluations" in page


@pytest.mark.parametrize("when", [1, 3])
def test_patience_is_remembered_where_a_run_is_interrupted(tmp_path: Path, when: int) -> None:
    def end(done: int, figures: dict[str, float]) -> None:
        if done == when:
            raise KeyboardInterrupt

    whole = run(watched(PATIENCE), tmp_path / "whole", report=False)
    with pytest.raises(KeyboardInterrupt):
        run(watched(PATIENCE), tmp_path / "run", progress=end, report=False)
    folder = resume(tmp_path / "run", report=False)
    assert accuracies(folder) == accuracies(whole)
    for key in ("ended", "rounds", "bytes_sent"):
        assert (folder.summary or {})[key] == (whole.summary or {})[key]


@pytest.mark.parametrize("away", [0, 3])
def test_patience_goes_on_while_a_node_is_away(tmp_path: Path, away: int) -> None:
    settings = watched({**PATIENCE, "min_delta": 1.0}, faults={"absent": {away: [[1, 12]]}})
    folder = run(settings, tmp_path / "run", report=False)
    assert (folder.summary or {})["rounds"] == 3  # the first is the best, and two are not better


def test_patience_with_another_figure_begins_anew(tmp_path: Path) -> None:
    first = run(watched({**PATIENCE, "min_delta": 1.0}), tmp_path / "run", report=False)
    assert (first.summary or {})["rounds"] == 3
    other = {"metric": "loss", "patience": 2, "min_delta": 100.0}
    again = resume(first.path, {"until": other}, report=False)
    assert (again.summary or {})["rounds"] == 6
    assert "loss had not become better" in (again.summary or {})["ended"]


def test_a_larger_budget_lets_a_run_go_on(tmp_path: Path) -> None:
    first = run(watched({"bytes": "20kB"}), tmp_path / "run", report=False)
    done, sent = (first.summary or {})["rounds"], (first.summary or {})["bytes_sent"]
    assert sent >= 20_000 > sent * (done - 1) / done
    with pytest.raises(ConfigError, match="ended by its own rule"):
        resume(first.path, report=False)
    again = resume(first.path, {"until": {"bytes": "40kB"}}, report=False)
    whole = run(watched({"bytes": "40kB"}), tmp_path / "whole", report=False)
    assert (again.summary or {})["ended"] == (whole.summary or {})["ended"]
    assert accuracies(again) == accuracies(whole)
    last = resume(first.path, {"until": None}, report=False)
    assert (last.summary or {})["rounds"] == 12
    assert "ended" not in (last.summary or {})


def test_validation_is_what_patience_goes_by_where_there_is_some(tmp_path: Path) -> None:
    data = {"name": "digits", "validation": 0.1}
    folder = run(
        watched({"patience": 1, "min_delta": 0.9}, data=data), tmp_path / "r", report=False
    )
    assert "validation accuracy" in (folder.summary or {})["ended"]
    assert (folder.summary or {})["rounds"] == 2


def test_clients_own_examples_are_a_figure_too(tmp_path: Path) -> None:
    evaluate = {"every": 1, "per_client": True, "local_validation": 0.2}
    until = {"metric": "loss_per_client", "reaches": 100.0}
    for method in ("dpsgd", "fedavg"):
        settings = watched(until, evaluate=evaluate, algorithm=method)
        if method == "fedavg":
            settings["algorithm"] = {"name": "fedavg", "sampled": 4}
        folder = run(settings, tmp_path / method, report=False)
        assert (folder.summary or {})["rounds"] == 1


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"until": {"patience": 2}}, "test examples are for the end"),
        ({"until": {"metric": "accurracy", "reaches": 0.5}}, "is not measured"),
        ({"until": {"metric": "accuracy"}}, "looked at by nothing"),
        ({"until": {"min_delta": 0.1}}, "is of patience"),
        ({"until": {"bytes": "20 apples"}}, "no amount of bytes"),
        ({"until": {"seconds": 3}, "clock": "wall"}, "models nothing"),
        ({"until": {"bytes": 9}, "algorithm": "adpsgd", "runtime": "processes"}, "no worker waits"),
        (
            {"until": {"bytes": 9}, "runtime": {"name": "processes", "on_crash": "continue"}},
            "what they have spent",
        ),
        (
            {"until": PATIENCE, "faults": {"crash": [{"nodes": [1], "round": 2}]}},
            "what its patience was",
        ),
    ],
)
def test_what_nobody_could_keep_to_is_refused(
    tmp_path: Path, settings: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        run({"nodes": 4, "topology": "ring", **settings}, tmp_path / "run")
    assert "until" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_bytes_are_read_as_people_write_them() -> None:
    chosen = RunFile.parse({"until": {"bytes": "1.5 MB"}})
    assert chosen.until is not None
    assert chosen.until.bytes == 1_500_000
    assert RunFile.parse(chosen.dump()) == chosen


@pytest.mark.slow
@pytest.mark.parametrize("until", [{"bytes": "20kB"}, {"joules": 0.001}, PATIENCE])
def test_real_processes_end_with_the_same_round(tmp_path: Path, until: dict[str, Any]) -> None:
    here = run(watched(until), tmp_path / "here", report=False)
    workers = {"name": "processes", "workers": 2}
    there = run(watched(until, runtime=workers), tmp_path / "there", report=False)
    for key in ("ended", "rounds", "bytes_sent"):
        assert (here.summary or {})[key] == (there.summary or {})[key]
