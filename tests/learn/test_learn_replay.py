"""Runs in which a worker is killed, done again in ``simulate``: equal to the bit, or where not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hansa.base.errors import ConfigError
from hansa.cli.app import app
from hansa.engine import Processes
from hansa.engine.runtimes.strikes import Strike
from hansa.experiment import RunFile, run
from hansa.experiment.replays import replay_of
from hansa.report import RunFolder

Small = Callable[..., dict[str, Any]]


def struck(small: Small, out: Path, name: str, on_crash: str, strike: Strike) -> RunFolder:
    """A run in three workers, one of whom is killed."""
    changes = {"nodes": 9, "rounds": 7, "algorithm": name}
    changes["checkpoint"] = {"every": 2}
    changes |= {"topology.degree": 4, "evaluate.every": 1, "faults": {"loss": 0.05}}
    changes["clock"] = {"name": "modelled", "spread": 1.0}
    settings = small(changes)
    if name == "fedavg":
        settings.pop("topology")
    settings["runtime"] = {"name": "processes", "workers": 3, "on_crash": on_crash}
    chosen = RunFile.parse(settings)
    assert isinstance(chosen.runtime, Processes)
    chosen.runtime._strikes = (strike,)
    return run(chosen, out, report=False)


@pytest.mark.parametrize(
    ("name", "on_crash", "moment"),
    [
        ("dpsgd", "restart", "receiving"),
        pytest.param("fedavg", "continue", "training", marks=pytest.mark.slow),
    ],
)
def test_a_run_whose_worker_was_killed_is_done_again_to_the_bit(
    small: Small, tmp_path: Path, name: str, on_crash: str, moment: Any
) -> None:
    strike = Strike(1, 3, moment, "crash")
    folder = struck(small, tmp_path / "run", name, on_crash, strike)
    assert folder.summary is not None
    counts = folder.summary["faults"]
    assert counts["nodes_lost"] == 3
    came = [event["nodes"] for event in folder.events() if event["kind"] == "rejoined"]
    assert counts["rejoined"] == sum(map(len, came))
    assert counts["rejoined"] in ((0, 3) if on_crash == "restart" else (0,))  # it may be too late
    assert counts["silent"] > 0
    assert counts["absent_rounds"] >= 3
    said = CliRunner().invoke(
        app, ["learn", "--replay", str(folder.path), "--out", str(tmp_path / "again"), "--json"]
    )
    assert said.exit_code == 0, said.output
    answer = json.loads(said.stdout)
    assert answer["equal"] is True
    assert answer["compared"]["models"] == (9 if name == "dpsgd" else 1)
    assert answer["compared"]["rounds"] == 7
    again = answer["faults"]
    assert again["silent"] == counts["silent"]
    assert answer["overhead_bytes"] == 0


@pytest.mark.slow
def test_a_replay_of_another_course_says_where_they_part(small: Small, tmp_path: Path) -> None:
    """An event of round 2 is taken away: a message comes that did not."""
    settings = small({"rounds": 3, "checkpoint": {"every": 3}, "evaluate.every": 1})
    folder = run(settings, tmp_path / "run", report=False)
    silent = {"kind": "missing", "round": 2, "of": "model", "exchange": 0, "cause": "silent"}
    job_edge = replay_of(folder.path)
    assert run(job_edge, tmp_path / "same", report=False).summary["equal"] is True  # type: ignore[index]
    graph = json.loads((folder.path / "topology.json").read_text())["edges"]
    sender, receiver = graph[0]
    folder.event(**silent, outcome="self", senders=[sender], receivers=[receiver])
    said = CliRunner().invoke(
        app, ["learn", "--replay", str(folder.path), "--out", str(tmp_path / "other"), "--json"]
    )
    assert said.exit_code == 4
    first = json.loads(said.stdout)["equal"]
    assert first["round"] == 2
    assert first["node"] in (None, receiver)
    assert first["recorded"] != first["replayed"]


def test_what_cannot_be_replayed_is_refused_by_name(small: Small, tmp_path: Path) -> None:
    folder = run(small({"rounds": 1}), tmp_path / "run", report=False)
    folder.event("rejoined", nodes=[1])
    with pytest.raises(ConfigError, match="of what went wrong is none") as caught:
        replay_of(folder.path)
    assert caught.value.field == "runtime.replay"
    (folder.path / "events.jsonl").unlink()
    for file in (folder.path / "metrics").iterdir():
        file.unlink()
    with pytest.raises(ConfigError, match="no round"):
        replay_of(folder.path)
