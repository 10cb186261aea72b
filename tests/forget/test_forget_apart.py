"""Requests served by parties that have nothing of each other: as in one block, to the bit.

Each party is built from the plan and its own holding, in files, and reads its own nodes' part of
the run's checkpoint; the examples of the job that was dealt are spoiled.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hansa.engine import Job, Processes, read_manifest
from hansa.engine.runtimes.checkpoint import load_block
from hansa.engine.runtimes.runtime import split_nodes
from hansa.experiment import run
from hansa.experiment.played import Place
from hansa.forget import (
    Downweight,
    FedEraser,
    Forgetting,
    GradientAscent,
    OnOriginals,
    ProjectedAscent,
    Pruning,
    QuickDrop,
    RandomReal,
    Recovery,
    Request,
    Retrain,
    Shards,
)
from hansa.forget.directed import ROW, SERVED
from hansa.forget.playing import at_work, play, starting
from hansa.forget.serving import Serving
from hansa.forget.trained import Trained, open_trained

from ..engine.apart import Whole, in_order, parties_of, play_apart
from .conftest import SETTINGS
from .test_forget_goal import train

SHORT = Recovery(rounds=2, steps=2, rechecks=2)
TUNE = Recovery(rounds=2, steps=2, rechecks=0)
CLASS, CLIENT = Request.of(classes=[3]), Request.of(clients=[1])
METHODS: dict[str, tuple[Forgetting, Request]] = {
    "quickdrop, a class": (QuickDrop(recovery=SHORT), CLASS),
    "quickdrop, a client": (QuickDrop(recovery=SHORT, real_share=0.3), CLIENT),
    "originals": (OnOriginals(recovery=SHORT), CLASS),
    "random_real": (RandomReal(recovery=SHORT), CLASS),
    "sga, a class and a client": (
        GradientAscent(recovery=SHORT, ewc=1.0), Request.of(classes=[3], clients=[1]),
    ),
    "pgd": (ProjectedAscent(recovery=TUNE), CLIENT),
    "federaser": (FedEraser(), CLIENT),
    "downweight": (Downweight(down=-0.1), CLIENT),
    "fu_mp": (Pruning(recovery=TUNE), CLASS),
}  # fmt: skip


def program(trained: Trained, request: Request, how: Forgetting) -> Serving:
    """A whole request: the method, measuring, judging, and what is destroyed."""
    case = trained.case(request)
    return Serving(
        learned=trained.job.algorithm, rounds=trained.job.rounds, done=trained.done,
        request=request, past=case.past, how=how,
        pixels=trained.layout.pixels if trained.layout else 0,
    )  # fmt: skip


def unwound(facts: Any) -> Any:
    """Facts without the seconds of this machine, as text: NaN is equal to NaN there."""
    if isinstance(facts, dict):
        return {k: unwound(v) for k, v in facts.items() if k != "seconds"}
    return [unwound(v) for v in facts] if isinstance(facts, list | tuple) else repr(facts)


def here(trained: Trained, serving: Serving, folder: Path) -> tuple[dict[str, Any], Whole]:
    """(the facts, all nodes) of a program in one block."""
    served = play(serving, trained.job, trained.checkpoint, folder)
    block = trained.job.block(np.arange(trained.job.nodes))
    load_block(block, served.checkpoint, read_manifest(served.checkpoint))
    return served.facts, in_order([block])


def private(job: Job) -> Job:
    """The same job with training examples of its own, which may be spoiled."""
    split = job.dataset.train
    own = replace(split, inputs=split.inputs.clone(), targets=split.targets.clone())
    return replace(job, dataset=replace(job.dataset, train=own))


def apart(
    trained: Trained, serving: Serving, folder: Path, workers: int
) -> tuple[dict[str, Any], Whole]:
    """The same in several blocks, over sockets."""
    begin = starting(trained.job, trained.checkpoint, folder / "checkpoints", {ROW: None})
    groups = split_nodes(trained.job.nodes, workers, trained.job.servers)
    jobs = parties_of(at_work(private(trained.job), serving), folder, groups)
    manifest = read_manifest(begin)
    blocks, _ = play_apart(jobs, groups, begin=lambda block: load_block(block, begin, manifest))
    said = [e for block in blocks for e in block.events if e["kind"] == SERVED]
    assert len(said) == 1  # the server's
    return json.loads(json.dumps(said[0]["facts"])), in_order(blocks)


def assert_same(trained: Trained, serving: Serving, folder: Path, workers: int) -> dict[str, Any]:
    """A program comes to the same in one block and in several; its facts."""
    facts, whole = here(trained, serving, folder / "here")
    (folder / "apart").mkdir()
    others, split = apart(trained, serving, folder / "apart", workers)
    assert unwound(others) == unwound(facts)
    assert torch.equal(split.models, whole.models)
    assert torch.equal(split.rows, whole.rows)
    assert split.state.keys() == whole.state.keys()
    for name, values in whole.state.items():
        assert torch.equal(split.state[name], values), name
    assert split.shelves.keys() == whole.shelves.keys()
    for name, rows in whole.shelves.items():
        assert split.shelves[name].keys() == rows.keys()
        assert all(torch.equal(split.shelves[name][node], row) for node, row in rows.items())
    return facts


@pytest.mark.parametrize("name", METHODS)
def test_a_request_is_served_apart_as_in_one_block(
    opened: Trained, tmp_path: Path, name: str
) -> None:
    how, request = METHODS[name]
    workers = 2 if len(name) % 2 else 6  # in six every node is a party of its own
    assert_same(opened, program(opened, request, how), tmp_path, workers)


def test_a_sample_is_named_by_the_runs_own_number(opened: Trained, tmp_path: Path) -> None:
    """A worker has its examples at other positions, and its model of them is the same."""
    sample = int(opened.job.parts[3][5])
    serving = program(opened, Request.of(samples=[sample]), GradientAscent(recovery=SHORT))
    facts = assert_same(opened, serving, tmp_path, 3)
    assert facts["story"]["holders"] == [3]


def test_three_classes_at_skewed_sites_with_batch_norm(tmp_path: Path) -> None:
    path = train(
        tmp_path / "table", 3, norm=True, algorithm="fedavg", rounds=4, evaluate={"every": 4},
        checkpoint={"every": 4},
    )  # fmt: skip
    trained = open_trained(path)
    for number, (how, request) in enumerate([
        (GradientAscent(recovery=SHORT), Request.of(classes=[1])),
        (ProjectedAscent(recovery=TUNE), Request.of(clients=[2])),
    ]):  # fmt: skip
        folder = tmp_path / str(number)
        folder.mkdir()
        assert_same(trained, program(trained, request, how), folder, 3)


def test_markers_are_measured_where_they_are(tmp_path: Path) -> None:
    marked = {
        **SETTINGS,
        "rounds": 3,
        "data": {
            **SETTINGS["data"],
            "markers": [
                {"name": "backdoor", "clients": [1], "share": 0.5, "target": 0},
                {"name": "canaries", "clients": [1], "count": 4},
            ],
        },
    }
    trained = open_trained(run(marked, tmp_path / "run", report=False).path)
    facts = assert_same(trained, program(trained, CLIENT, QuickDrop(recovery=SHORT)), tmp_path, 2)
    assert {"backdoor", "canaries"} <= facts["figures"]["before"].keys()


COHORTS: dict[str, Any] = {
    **SETTINGS,
    "nodes": 6,
    "rounds": 2,
    "data": {"name": "digits", "public": 0.05},
    "model": {"name": "mlp", "hidden": [8]},
    "algorithm": {
        "name": "cpfl", "cohorts": {"name": "given", "members": [0, 1, 0, 1, 0, 1]},
        "distillation": {"epochs": 2}, "stop": None,
    },
    "evaluate": {"every": 2, "local_validation": 0.1},
    "checkpoint": {"every": 2},
}  # fmt: skip


def of_a_client(trained: Trained) -> Request:
    """An example of client 3."""
    return Request.of(samples=[int(trained.job.parts[3][0])])


@pytest.mark.parametrize(
    ("settings", "how", "request_of"),
    [
        pytest.param(
            SETTINGS | {"rounds": 2}, Retrain(), lambda trained: CLIENT, marks=pytest.mark.slow
        ),
        (COHORTS, Shards(), of_a_client),
    ],
    ids=["retrain", "shards"],
)
def test_training_anew_in_workers_is_as_in_one_block(
    tmp_path: Path,
    settings: dict[str, Any],
    how: Retrain | Shards,
    request_of: Callable[[Trained], Request],
) -> None:
    trained = open_trained(run(settings, tmp_path / "run", report=False).path)
    case = trained.case(request_of(trained))
    places = (Place(), Place(Processes(workers=2)))
    one, other = (how.train_again(case, tmp_path / str(k), place) for k, place in enumerate(places))
    assert torch.equal(one.row, other.row)
    assert one.story == other.story
    assert unwound(one.ledger.dump()) == unwound(other.ledger.dump())
    assert one.ledger.total.bytes > 0
    if one.checkpoint is None:
        return
    wholes = []
    for again in (one, other):
        block = trained.job.block(np.arange(trained.job.nodes))
        load_block(block, again.checkpoint, read_manifest(again.checkpoint))
        wholes.append(in_order([block]))
    assert torch.equal(wholes[0].rows, wholes[1].rows)
    assert wholes[0].shelves.keys() == wholes[1].shelves.keys()
