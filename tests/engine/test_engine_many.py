"""Very many clients: the same run to the bit, and few bytes for those who do nothing."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file

import hansa
from hansa.base import many
from hansa.base.few import Few
from hansa.engine.exchange.recorded import Recorded
from hansa.engine.exchange.wire import pack_control, unpack_control
from hansa.engine.runtimes.checkpoint import FEW as FILED
from hansa.engine.runtimes.checkpoint import load_block, read_manifest
from hansa.engine.runtimes.control import check_report
from hansa.engine.runtimes.host import Host
from hansa.experiment import RunFile, prepare
from hansa.experiment.equality import compared
from hansa.experiment.jobs import collect, host_job
from hansa.report import RunFolder

FEW: dict[str, Any] = {
    "nodes": 12,
    "rounds": 2,
    "data": "digits",
    "model": "logistic",
    "algorithm": {"name": "fedavg", "sampled": 5},
    "train": {"local_steps": 2, "batch_size": 8},
    "clock": {"name": "modelled", "spread": 0.5, "radio_joules_per_byte": 1e-6},
}
CASES: dict[str, dict[str, Any]] = {
    "late": {
        "algorithm": {"name": "fedavg", "sampled": 4, "over_selection": 1.6, "failure": 0.2},
        "clock": {"name": "devices", "availability": "diurnal"},
    },
    "lossy": {"faults": {"loss": 0.2}},
    "batteries": {"clock": {"name": "phones", "battery_share": 0.0001}},
    "stateful": {"algorithm": {"name": "scaffold", "sampled": 5}},
    "hierarchy": {"algorithm": {"name": "hierarchical", "edges": 3}},
    "peers": {"algorithm": "dpsgd", "topology": "ring"},
    "asynchronous": {"algorithm": {"name": "fedbuff", "concurrency": 5, "buffer": 3}},
}


def left_by(settings: dict[str, Any], out: Path) -> tuple[pl.DataFrame, dict[str, Any], list[Any]]:
    """The figures but for real time, the last checkpoint and the events of a run."""
    folder = hansa.run(settings, out, report=False)
    metrics = folder.metrics().filter(pl.col("name") != "round_seconds").drop("time")
    last = load_file(max((out / "checkpoints").glob("round-*/nodes-*.safetensors")))
    for key in [key for key in last if key.startswith(FILED) and key.endswith(".at")]:
        of = last.pop(key.removesuffix("at") + "of")
        whole = np.zeros(len(last["ids"]), dtype=of.dtype)
        whole[last.pop(key)] = of
        last["state." + key.removeprefix(FILED).removesuffix(".at")] = whole
    events = [{k: v for k, v in event.items() if k != "time"} for event in folder.events()]
    return metrics, last, events


@pytest.mark.parametrize("case", CASES)
def test_what_is_done_for_very_many_changes_nothing(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**FEW, **CASES[case]}
    metrics, checkpoint, events = left_by(settings, tmp_path / "few")
    monkeypatch.setattr(many, "MANY", 2)
    others = left_by(settings, tmp_path / "many")
    key = ["round", "node", "name"]
    assert others[0].sort(key).equals(metrics.sort(key))
    assert others[2] == events
    assert others[1].keys() == checkpoint.keys()
    assert all(np.array_equal(others[1][name], checkpoint[name]) for name in checkpoint)


def test_a_run_of_very_many_goes_on_from_what_a_few_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "MANY", 2)
    settings = {**FEW, "rounds": 1, "algorithm": {"name": "fedavg", "sampled": 2}}
    hansa.run(settings, tmp_path / "part", report=False)
    (file,) = (tmp_path / "part" / "checkpoints").glob("round-*/nodes-*")
    assert f"{FILED}steps.at" in load_file(file)
    folder = hansa.resume(tmp_path / "part", {"rounds": 3}, report=False)
    whole = hansa.run({**settings, "rounds": 3}, tmp_path / "whole", report=False)
    key, real = ["round", "node", "name"], pl.col("name") != "round_seconds"
    one, other = (run.metrics().filter(real).drop("time").sort(key) for run in (folder, whole))
    assert one.filter(pl.col("round") > 1).equals(other.filter(pl.col("round") > 1))


def test_workers_can_say_what_few_of_very_many_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "MANY", 2)
    job = prepare(RunFile.parse({**FEW, "evaluate": {"every": 1, "local_validation": 0.2}}))
    block, reports = job.block(np.arange(job.nodes)), list[dict[str, Any]]()
    Host(job, block, job.exchange(), reports.append, lambda block, done: None).run()
    assert any(isinstance(part["measured"]["values"]["accuracy"], Few) for part in reports)
    for said in reports:
        heard = unpack_control(pack_control("report", report=said))["report"]
        check_report(heard, block.ids, job.nodes)
        for name, values in said["log"].items():
            assert np.array_equal(heard["log"][name], np.asarray(values), equal_nan=True)


def test_a_checkpoint_is_the_same_however_its_state_is_filed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one block as of those of several workers, and to a replay that compares two runs."""
    settings = {**FEW, "algorithm": {"name": "fedavg", "sampled": 2}, "clock": "wall"}
    whole = hansa.run(settings, tmp_path / "whole", report=False)
    monkeypatch.setattr(many, "MANY", 2)
    few = hansa.run(settings, tmp_path / "few", report=False)
    monkeypatch.undo()
    assert compared(whole, few, Recorded(), 2)["equal"] is True
    assert compared(few, whole, Recorded(), 2)["equal"] is True
    assert compared(few, few, Recorded(), 2)["equal"] is True
    job = prepare(RunFile.parse(settings))
    saved = {run: run.path / "checkpoints/round-000002" for run in (whole, few)}
    assert any(key.startswith(FILED) for key in load_file(next(saved[few].glob("nodes-*"))))
    for ids in (np.arange(job.nodes), np.arange(0, job.nodes, 2), np.arange(1, job.nodes, 2)):
        blocks = [job.block(ids) for _ in saved]
        for block, folder in zip(blocks, saved.values(), strict=True):
            load_block(block, folder, read_manifest(folder))
        for name, values in blocks[0].state.items():
            assert torch.equal(values, blocks[1].state[name]), name


def bytes_at_most(nodes: int, folder: Path) -> int:
    """The most that NumPy and Python held at a time from the first model to the last round."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(nodes + 1000, 2)).astype(np.float32), rng.integers(0, 2, nodes + 1000)
    np.savez(folder / f"{nodes}.npz", x=x, y=y)
    settings = {
        **FEW,
        "nodes": nodes,
        "data": {"name": "file", "path": str(folder / f"{nodes}.npz"), "test_fraction": 0.001},
        "train": {"local_steps": 1, "batch_size": 1},
        "clock": "devices",
        "checkpoint": {"every": 0},
    }
    chosen = RunFile.parse(settings)
    job = prepare(chosen)
    run = RunFolder.create(folder / str(nodes), chosen.dump(), {})
    tracemalloc.start()
    try:
        host_job(job, chosen.runtime, collect(job, run))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_client_that_does_nothing_takes_few_bytes(tmp_path: Path) -> None:
    small, large = 2 * many.MANY, 4 * many.MANY
    bytes_at_most(small, tmp_path / "first")  # what is imported on the way
    more = bytes_at_most(large, tmp_path / "large") - bytes_at_most(small, tmp_path / "small")
    assert more / (large - small) < 150
