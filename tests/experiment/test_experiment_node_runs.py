"""Sites without a coordinator: the simulator's models to the bit, whoever stops or does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from hansa.cli.app import main
from hansa.experiment import RunFile, run
from hansa.experiment.run_model import open_models
from hansa.experiment.sites.explaining import explained, total
from hansa.experiment.sites.site_file import SiteFile
from hansa.models import ParameterLayout
from hansa.report import RunFolder
from hansa.report.joining import JoinedRun, joined

from .sites import GATED, models_of, sites

BASE: dict[str, Any] = {
    "nodes": 3,
    "rounds": 4,
    "topology": {"name": "ring"},
    "model": {"name": "mlp", "hidden": [8]},
    "train": {"local_steps": 2, "strategy": "looped"},
    "evaluate": {"every": 2},
    "checkpoint": {"every": 1},
}
ALGORITHMS: dict[str, dict[str, Any]] = {
    "dpsgd": {},
    "jwins": {"algorithm": "jwins"},
    "skiptrain": {"algorithm": "skiptrain"},
    "fedavg": {"algorithm": {"name": "fedavg", "sampled": 2}},
    "hierarchical": {
        "algorithm": {
            "name": "hierarchical",
            "edges": [[0, 2], [1]],
            "edge_rounds": 2,
            "orphans": "rehome",
        },
        "faults": {"absent": {5: [[1, 2]]}},
    },
    "cpfl": {
        "algorithm": {"name": "cpfl", "cohorts": 1},
        "evaluate": {"every": 2, "local_validation": 0.2},
        "data": {"name": "digits", "public": 0.2},
    },
}
UNKNOWN = ("consensus_distance", "_average_model")


def run_of(**more: Any) -> dict[str, Any]:
    return {**BASE, "algorithm": "dpsgd", **more}


SLOW = ("jwins", "skiptrain", "hierarchical", "cpfl")
CASES = [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in ALGORITHMS]


@pytest.mark.parametrize("name", CASES)
def test_sites_come_to_the_models_of_the_simulation(tmp_path: Path, name: str) -> None:
    settings = run_of(**ALGORITHMS[name])
    chosen = RunFile.parse(settings)
    servers = chosen.algorithm.servers(3)
    nodes = [[0], [1], [2]] + [[3 + k] for k in range(servers)]
    with sites(tmp_path, settings, nodes) as made:
        made.start()
        simulated = run(chosen, tmp_path / "simulated", report=False)
        made.finish()
        folders = [made.out(k) for k in range(made.count)]
    assert torch.equal(models_of(folders, chosen), models_of([simulated.path], chosen))
    (whole,), lines = joined([RunFolder.open(folder) for folder in folders])
    assert isinstance(whole, JoinedRun)
    assert not whole.missing
    assert lines == [
        "run: the folders of " + ", ".join(w["name"] for w in whole.who) + " as one run."
    ]
    same_rows(whole.metrics(), simulated.metrics())
    summaries = [RunFolder.open(folder).summary or {} for folder in folders]
    assert all(one["partial"] and one["overhead_bytes"] > 0 for one in summaries)
    assert sum(one["bytes_sent"] for one in summaries) == (simulated.summary or {})["bytes_sent"]


def same_rows(ours: pl.DataFrame, simulated: pl.DataFrame) -> None:
    """The same measurements but for clocks, and for what takes all models at once."""

    def rows(frame: pl.DataFrame) -> dict[Any, float]:
        known = frame.filter(
            ~pl.col("name").str.contains("|".join(UNKNOWN)) & (pl.col("name") != "round_seconds")
        )
        columns = ("round", "node", "name")
        found = {
            tuple(row[c] for c in columns): row["value"] for row in known.iter_rows(named=True)
        }
        assert len(found) == len(known)
        return found

    assert rows(ours) == pytest.approx(rows(simulated), rel=1e-12, nan_ok=True)
    stamps = [
        frame.filter(pl.col("node").is_null())
        .group_by("round")
        .agg(pl.col("bytes").max())
        .sort("round")
        for frame in (ours, simulated)
    ]
    assert stamps[0].equals(stamps[1])


def test_what_leaves_a_site_is_what_explain_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = run_of(algorithm={"name": "fedavg", "sampled": 3})
    with sites(tmp_path, settings, [[0], [1], [2], [3]]) as made:
        said = [explained(SiteFile.load(made.file(k))) for k in range(4)]
        made.start()
        made.finish()
        for k, facts in enumerate(said):
            assert all(row["exact"] for row in facts["rows"] if row["when"] == "round")
            summary = RunFolder.open(made.out(k)).summary or {}
            assert summary["bytes_sent"] == 4 * total(facts, "round"), made.said(k)
            assert not facts["refused"]
        capsys.readouterr()
        assert main(["node", "run", str(made.file(0))]) == 2
        assert "another session at all sites" in capsys.readouterr().err
        assert main(["export", str(made.out(0)), "--out", str(tmp_path / "m.safetensors")]) == 2
        assert "live at another site" in capsys.readouterr().err
        assert main(["export", str(made.out(3)), "--out", str(tmp_path / "m.safetensors")]) == 0
        models = open_models(RunFolder.open(made.out(3)))
        row = ParameterLayout.of(models.blank).flatten(models.module())
        assert torch.equal(row, models_of([made.out(3)], RunFile.parse(settings))[0])
    assert main(["node", "explain", str(made.file(0)), "--json"]) == 0


def gated(folder: Path, **more: Any) -> dict[str, Any]:
    """Settings of a run of 8 rounds whose fourth waits until the file ``go`` is in the folder."""
    (folder / "gated.py").write_text(GATED)
    algorithm = {"name": "gated", "gate": str(folder / "go")}
    plugins = [str(folder / "gated.py")]
    return run_of(rounds=8, **{"algorithm": algorithm, "plugins": plugins, **more})


def test_a_site_that_is_killed_takes_part_again(tmp_path: Path) -> None:
    with sites(tmp_path, gated(tmp_path), [[0], [1], [2]]) as made:
        made.start()
        made.at_gate(1)
        process = made.processes[1]
        assert process is not None
        process.kill()
        process.join()
        made.start(1)
        (tmp_path / "go").touch()
        made.finish()
        assert "south is back" in made.said(0)
        events = RunFolder.open(made.out(1)).events()
        (back,) = [event for event in events if event["kind"] == "rejoined"]
        assert 3 == back["from"] < back["at"] <= 8
        (whole,), _ = joined([RunFolder.open(made.out(k)) for k in range(3)])
        assert isinstance(whole, JoinedRun)
        gone = [r for r in whole.missing.get("south", []) if r]
        assert gone == list(range(back["from"] + 1, back["at"]))
        assert (whole.summary["status"], whole.summary["rounds"]) == ("finished", 8)
        assert json.loads(json.dumps(whole.summary))["partial"] == bool(gone)
        assert main(["learn", "--replay", str(made.out(0)), "--json"]) == 2


@pytest.mark.slow
def test_ctrl_c_ends_one_site_and_the_others_go_on(tmp_path: Path) -> None:
    with sites(tmp_path, gated(tmp_path), [[0], [1], [2]]) as made:
        made.start()
        made.at_gate(2)
        process = made.processes[2]
        assert process is not None
        process.terminate()
        (tmp_path / "go").touch()
        assert made.status(2) == 130
        assert "to take part again: hansa node run" in made.said(2)
        assert made.status(0) == made.status(1) == 0
        assert "east has ended" in made.said(0)
        ended = RunFolder.open(made.out(2)).summary or {}
        assert ended["status"] == "interrupted"
        assert (RunFolder.open(made.out(0)).summary or {})["rounds"] == 8


def test_status_says_who_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sites(tmp_path, run_of(rounds=2), [[0], [1], [2]]) as made:
        made.start(0)
        made.wait(0, "waiting for south")
        assert main(["node", "status", str(made.file(0)), "--json"]) == 0
        waiting = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert waiting["status"] == "running"
        assert [peer["name"] for peer in waiting["peers"]] in ([], ["south", "east"])
        made.start(1, 2)
        made.finish()
        assert main(["node", "status", str(made.out(0)), "--json"]) == 0
        over = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (over["status"], over["round"], over["rounds"]) == ("finished", 2, 2)
        assert main(["compare", *(str(made.out(k)) for k in range(3)), "--out",
                     str(tmp_path / "page.html"), "--json"]) == 0  # fmt: skip
        compared = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert len(compared["runs"]) == 1
        page = (tmp_path / "page.html").read_text()
        assert "joined from the folders of 3 sites: north, south, east" in page
