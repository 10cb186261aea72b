"""Runs whose nodes live in actors of Ray: two nodes of a cluster on this machine."""

import contextlib
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hansa.base.errors import ConfigError, RunError
from hansa.experiment import RunFile, resume, run
from hansa.experiment.replays import replay_of
from hansa.report import RunFolder

from .gated import GATED, WAIT, Gate, alive
from .ray_nodes import Ended, Nodes, ray_nodes, why_ray_cannot_start

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """Two nodes of one core each, so that two actors are on both."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="hr") as folder:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        with contextlib.ExitStack() as stack:
            try:
                cluster = stack.enter_context(ray_nodes(Path(folder)))
            except Ended:
                if why := why_ray_cannot_start(Path(folder)):
                    pytest.skip(f"Ray does not start on this machine: {why}")
                raise
            yield cluster


@pytest.fixture
def both(
    nodes: Nodes, small: Callable[..., dict[str, Any]], tmp_path: Path
) -> Callable[..., tuple[RunFolder, RunFolder]]:
    """The same run in simulate and in Ray: (there, here)."""

    def go(changes: dict[str, Any]) -> tuple[RunFolder, RunFolder]:
        settings = small(changes)
        settings["checkpoint"] = {"every": settings["rounds"]}
        here = run(settings, tmp_path / "here", report=False)
        runtime = {"name": "ray", "workers": 2, "address": nodes.address}
        there = run({**settings, "runtime": runtime}, tmp_path / "there", report=False)
        return there, here

    return go


def rows_of(folder: RunFolder) -> torch.Tensor:
    """The models at the end of a run, by the node that has one."""
    summary = folder.summary
    assert summary is not None
    files = (folder.path / "checkpoints" / f"round-{summary['rounds']:06d}").glob("*.safetensors")
    parts = [load_file(file) for file in files]
    order = torch.cat([part["residents"] for part in parts]).argsort()
    return torch.cat([part["rows"] for part in parts])[order]


ALGORITHMS: dict[str, dict[str, Any]] = {
    "dpsgd": {},
    "jwins": {"algorithm": "jwins"},
    "fedavg with sampling": {"algorithm": {"name": "fedavg", "sampled": 4}},
    "skiptrain": {"algorithm": "skiptrain"},
    "hierarchical": {"algorithm": {"name": "hierarchical", "edges": 3, "edge_rounds": 2}},
    "cpfl": {
        "algorithm": {"name": "cpfl", "cohorts": 2, "merge": "average"},
        "evaluate": {"every": 2, "local_validation": 0.1},
        "rounds": 4,
    },
    "rex": {
        "data": {"name": "synthetic_ratings", "people": 24, "partition": "users"},
        "model": "matrix_factorization",
        "algorithm": {"name": "rex", "share": "both", "withdraw": [{"user": 3, "at": 1}]},
        "train.optimizer": {"name": "sgd", "lr": 0.01, "weight_decay": 0.05},
    },
}


# One stays quick: what Ray adds is the same for all, and test_engine_runtimes.py has sampling too.
CASES = [pytest.param(n, marks=[pytest.mark.slow] * (n != "dpsgd")) for n in ALGORITHMS]


@pytest.mark.parametrize("name", CASES)
def test_models_are_those_of_simulate(name: str, both: Callable[..., Any]) -> None:
    there, here = both(ALGORITHMS[name])
    assert torch.equal(rows_of(there), rows_of(here))
    assert there.summary["bytes_sent"] == here.summary["bytes_sent"]
    assert there.summary["final"] == pytest.approx(here.summary["final"], rel=1e-6)


@pytest.mark.parametrize(
    ("token", "workers", "problem"),
    [("7e" * 32, 2, "does not take this machine's token"), (None, 3, "has 2 CPUs")],
)
def test_a_cluster_that_says_no_does_so_before_data_are_read(
    nodes: Nodes,
    small: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    token: str | None,
    workers: int,
    problem: str,
) -> None:
    runtime = {"name": "ray", "workers": workers, "address": nodes.address}
    chosen = RunFile.of(small({"runtime": runtime}))
    monkeypatch.setattr(type(chosen.data), "load", lambda *_: pytest.fail("data were read"))
    if token:
        monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    with pytest.raises(ConfigError, match=problem) as caught:
        run(chosen, tmp_path / "run", report=False)
    assert caught.value.field == "runtime.address"
    assert not (tmp_path / "run").exists()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """The folder of notes of a gated run."""
    gate = Gate(tmp_path)
    yield gate
    for thread in gate.threads:
        thread.join()


@pytest.fixture
def gated(
    nodes: Nodes, small: Callable[..., dict[str, Any]], tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """Settings of a gated run in Ray, of 8 rounds."""

    def make(on_crash: str, **changes: Any) -> dict[str, Any]:
        own = tmp_path / "own" / "gated.py"
        own.parent.mkdir()
        own.write_text(GATED)
        runtime = {"name": "ray", "address": nodes.address, "on_crash": on_crash, "deadline": WAIT}
        algorithm = {"name": "gated", "notes": str(tmp_path)}
        settings = small({"algorithm": algorithm, "rounds": 8, "runtime": runtime, **changes})
        return {**settings, "plugins": [str(own)], "checkpoint": {"every": 2, "keep": 2}}

    return make


def events(folder: RunFolder, kind: str) -> list[dict[str, Any]]:
    return [event for event in folder.events() if event["kind"] == kind]


@pytest.mark.slow
def test_a_run_whose_node_is_lost_ends_and_is_resumed(
    gated: Callable[..., dict[str, Any]],
    gate: Gate,
    nodes: Nodes,
    tmp_path: Path,
) -> None:
    settings = gated("stop")

    def progress(done: int, figures: dict[str, float]) -> None:
        if done == 4:  # both are at the gate, or about to be
            nodes.kill()

    with pytest.raises(RunError, match=r"worker [01] .* was lost") as caught:
        run(settings, tmp_path / "run", progress, report=False)
    assert "--resume" in str(caught.value)
    assert "ray.log" in str(caught.value)
    nodes.add()
    gate.open()
    there = resume(tmp_path / "run", report=False)
    here = run({**settings, "runtime": "simulate"}, tmp_path / "here", report=False)
    assert len(gate.pids()) == 4
    assert torch.equal(rows_of(there), rows_of(here))


@pytest.mark.slow  # test_engine_crash.py has it in processes
def test_the_others_go_on_without_a_node(
    gated: Callable[..., dict[str, Any]], gate: Gate, nodes: Nodes, tmp_path: Path
) -> None:
    def progress(done: int, figures: dict[str, float]) -> None:
        if done == 3:
            nodes.kill()
            gate.open_when(lambda: not all(map(alive, gate.pids())))

    there = run(gated("continue"), tmp_path / "run", progress, report=False)
    nodes.add()
    (lost,) = events(there, "lost")
    assert len(lost["nodes"]) == 4
    assert there.summary is not None
    assert there.summary["rounds"] == 8
    replay = run(replay_of(there.path), tmp_path / "replay", report=False)
    assert replay.summary is not None
    assert replay.summary["equal"] is True


@pytest.mark.slow
def test_a_lost_site_is_placed_on_another_node_and_takes_part_again(
    gated: Callable[..., dict[str, Any]], gate: Gate, nodes: Nodes, tmp_path: Path
) -> None:
    def progress(done: int, figures: dict[str, float]) -> None:
        if done == 3:
            nodes.kill()
            nodes.add()
            gate.open_when(lambda: len(gate.pids("loaded")) == 3)

    algorithm = {"name": "gated", "notes": str(tmp_path), "sites": 3}
    settings = gated("restart", algorithm=algorithm, rounds=200)
    settings["evaluate"] = {**settings["evaluate"], "every": 50}
    there = run(settings, tmp_path / "run", progress, report=False)
    (back,) = events(there, "rejoined")
    assert back["from"] in (0, 2)
    assert 5 <= back["at"] <= 200
    assert len(gate.pids()) == 3
    replay = run(replay_of(there.path), tmp_path / "replay", report=False)
    assert replay.summary is not None
    assert replay.summary["equal"] is True
