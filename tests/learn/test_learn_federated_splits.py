"""Federated runs are the same to the bit in waves, in worker processes and after a resume."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from hansa.engine import Block, Job, read_manifest
from hansa.engine.runtimes.checkpoint import load_block, save_block, seal
from hansa.engine.runtimes.host import Host
from hansa.experiment import resume, run

CLOCK = {"name": "modelled", "spread": 0.7, "bandwidth": 1e5, "latency": 0.03}
BASE: dict[str, Any] = {
    "clock": CLOCK,
    "rounds": 6,
    "train.budget": {"name": "uniform", "low": 1, "high": 4},
    "train.local_steps": 4,
}
VALIDATED = {"evaluate": {"every": 2, "local_validation": 0.1}}
RUNS: dict[str, dict[str, Any]] = {
    "fedavg": {"algorithm": {"name": "fedavg", "sampled": 5}},
    "fedavg late": {"algorithm": {"name": "fedavg", "sampled": 4, "over_selection": 2}},
    "fedavg momentum": {"algorithm": {"name": "fedavg", "global_momentum": 0.5}},
    "fedavg best": {"algorithm": {"name": "fedavg", "sampled": 5, "select": "best"}, **VALIDATED},
    "fedavg stop": {
        "algorithm": {
            "name": "fedavg",
            "sampled": 5,
            "select": "best",
            "stop": {"window": 2, "patience": 2, "min_delta": 0.4},
        },
        **VALIDATED,
    },
    "fedprox": {"algorithm": {"name": "fedprox", "mu": 0.1, "sampled": 5}},
    "fednova": {"algorithm": {"name": "fednova", "sampled": 5}},
    "fedavgm": {"algorithm": "fedavgm"},
    "fedadam": {"algorithm": "fedadam"},
    "fedyogi": {"algorithm": "fedyogi"},
    "fedadagrad": {"algorithm": "fedadagrad"},
    "scaffold": {"algorithm": {"name": "scaffold", "sampled": 4}},
    "scalefl": {"algorithm": {"name": "scalefl", "sampled": 5}},
    "fedbuff": {"algorithm": {"name": "fedbuff", "concurrency": 5, "buffer": 2}},
    "cpfl": {
        "algorithm": {
            "name": "cpfl",
            "cohorts": 2,
            "sampled": 3,
            "merge": "average",
            "stop": {"window": 2, "patience": 2, "min_delta": 0.4},
        },
        **VALIDATED,
    },
}
RUNS |= {
    "hierarchical": {
        "algorithm": {"name": "hierarchical", "edges": 3, "edge_rounds": 2, "sampled": 2},
    },
    "hierarchical stop": {
        "algorithm": {
            "name": "hierarchical",
            "edges": 2,
            "edge_rounds": 1,
            "select": "best",
            "stop": {"window": 2, "patience": 2, "min_delta": 0.4},
            "server": "momentum",
            "cloud": {"server": "adam"},
            "orphans": "rehome",
        },
        **VALIDATED,
    },
}


def equal(one: Block, other: Block) -> None:
    """All that a block is, to the last bit."""
    assert torch.equal(one.rows, other.rows)
    for name in ("state", "kept"):
        left, right = getattr(one, name), getattr(other, name)
        assert set(left) == set(right)
        for key, value in left.items():
            assert torch.equal(value.nan_to_num(-1), right[key].nan_to_num(-1)), key
    assert set(one.shelves) == set(other.shelves)
    for key, shelf in one.shelves.items():
        ids, rows = shelf.all()
        others, filed = other.shelves[key].all()
        assert ids.tolist() == others.tolist()
        assert torch.equal(rows, filed)


@pytest.mark.parametrize("name", RUNS)
def test_a_checkpoint_in_the_middle_leads_to_the_same_end(
    make_job: Callable[..., Job], tmp_path: Path, name: str
) -> None:
    """Also controls, updates that wait, servers' moments, and what a plateau has seen."""
    changes = {**BASE, **RUNS[name], "checkpoint": {"every": 1, "keep": 9}}
    job = make_job(changes)

    def save(block: Block, done: int) -> None:
        seal(tmp_path, done, [save_block(block, tmp_path, done)], 9)

    def go(job: Job, block: Block, start: int, save: Any) -> list[dict[str, Any]]:
        reports: list[dict[str, Any]] = []
        Host(job, block, job.exchange(), reports.append, save).run(start)
        return reports

    whole = job.block(np.arange(job.nodes))
    reports = go(job, whole, 0, save)
    assert len(reports) > 2
    for done in (1, len(reports) // 2, len(reports) - 1):
        again = make_job(changes)
        block = again.block(np.arange(again.nodes))
        folder = tmp_path / f"round-{done:06d}"
        load_block(block, folder, read_manifest(folder))
        later = go(again, block, done, lambda block, done: None)
        equal(block, whole)
        for ours, theirs in zip(later, reports[done:], strict=True):
            for key, value in theirs["values"].items():
                assert np.array_equal(value, ours["values"][key], equal_nan=True), key
            assert [e["kind"] for e in ours["events"]] == [e["kind"] for e in theirs["events"]]


@pytest.mark.parametrize("name", [name for name in RUNS if name != "fedbuff"])
@pytest.mark.parametrize("rows", [2, 3])
def test_waves_add_up_to_the_same(
    make_job: Callable[..., Job],
    host: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    rows: int,
) -> None:
    """However few models fit into memory at a time."""
    whole, reports = host(make_job({**BASE, **RUNS[name]}))
    trained: list[int] = []
    visit = Block.visit

    def counted(block: Block, who: np.ndarray, models: torch.Tensor) -> Block:
        trained.append(len(who))
        return visit(block, who, models)

    monkeypatch.setattr("hansa.learn.federated.waves._WAVE_BYTES", rows * 910 * 4 + 1)
    monkeypatch.setattr(Block, "visit", counted)
    waves, again = host(make_job({**BASE, **RUNS[name]}))
    assert max(trained) <= rows
    equal(waves, whole)
    for ours, theirs in zip(again, reports, strict=True):
        for key in ("round_time", "idle_time", "participants", "train_loss"):
            assert np.array_equal(ours["values"][key], theirs["values"][key], equal_nan=True), key


def saved(path: Path, done: int) -> dict[str, torch.Tensor]:
    """The models, and what clients keep, in a checkpoint, in the order of the nodes."""
    files = sorted((path / f"checkpoints/round-{done:06d}").glob("*.safetensors"))
    parts = [load_file(part) for part in files]
    found: dict[str, torch.Tensor] = {}
    for key in {key for part in parts for key in part}:
        if key != "rows" and not key.startswith(("kept", "shelf", "state.modelled")):
            continue
        owners = "ids" if key.startswith("state") else "residents"
        if key.startswith("shelf"):
            owners = f"{key.rpartition('.')[0]}.ids"
        those = [part for part in parts if key in part]
        order = torch.cat([part[owners] for part in those]).argsort()
        found[key] = torch.cat([part[key] for part in those if len(part[key])] or [order])
        found[key] = found[key][order]
    return found


@pytest.mark.slow  # test_engine_runtimes.py goes on with runs of processes
@pytest.mark.parametrize("name", ["scaffold", "cpfl"])
def test_worker_processes_by_command_and_a_resume(
    small: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    """``hansa learn`` in three processes, one process, and begun in three and ended in one."""
    settings = small({**BASE, **RUNS[name], "rounds": 4, "checkpoint": {"every": 2}})
    settings.pop("topology")
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(settings))
    one = run(settings, tmp_path / "one", report=False).summary
    assert one is not None
    workers = {"name": "processes", "workers": 3}
    command = [sys.executable, "-m", "hansa.cli", "learn", str(file), "--json", "--no-report"]
    command += ["--out", str(tmp_path / "three"), "--set", f"runtime={json.dumps(workers)}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    three = json.loads(done.stdout)
    assert one["bytes_sent"] == three["bytes_sent"]
    assert one["rounds"] == three["rounds"]
    assert one["final"] == pytest.approx(three["final"], abs=1e-6)
    left = saved(tmp_path / "one", one["rounds"])
    same(left, saved(tmp_path / "three", one["rounds"]))
    if name == "cpfl":
        return  # it ends with another model than it would go on with
    run({**settings, "rounds": 2, "runtime": workers}, tmp_path / "half", report=False)
    resume(tmp_path / "half", {"rounds": 4, "runtime": {"name": "simulate"}}, report=False)
    same(left, saved(tmp_path / "half", 4))


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    """To the last bit."""
    assert set(left) == set(right)
    for key, value in left.items():
        assert torch.equal(value.nan_to_num(-1), right[key].nan_to_num(-1)), key
