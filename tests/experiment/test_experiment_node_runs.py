"""Sites without a coordinator: the simulator's models to the bit, whoever stops or does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import yaml

from hansa.cli.app import main
from hansa.engine.links.keys import Key
from hansa.experiment import RunFile, run
from hansa.experiment.sites.explaining import explained, total
from hansa.experiment.sites.site_file import SiteFile
from hansa.report import RunFolder
from hansa.report.joining import JoinedRun, joined

from .sites import models_of, sites

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
    "cpfl": {
        "algorithm": {"name": "cpfl", "cohorts": 1},
        "evaluate": {"every": 2, "local_validation": 0.2},
        "data": {"name": "digits", "public": 0.2},
    },
}
UNKNOWN = ("consensus_distance", "_average_model")


def run_of(**more: Any) -> dict[str, Any]:
    return {**BASE, "algorithm": "dpsgd", **more}


@pytest.mark.parametrize("name", list(ALGORITHMS))
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


def test_what_leaves_a_site_is_what_explain_said(tmp_path: Path) -> None:
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
    assert main(["node", "explain", str(made.file(0)), "--json"]) == 0


def test_a_site_that_is_killed_takes_part_again(tmp_path: Path) -> None:
    settings = run_of(rounds=40, train={"local_steps": 1, "strategy": "looped"})
    patience = {"start": 240.0, "peer": 240.0, "server": 240.0}
    slow = {"network": {"delay": 0.1}}
    with sites(
        tmp_path, {**settings, **slow}, [[0], [1], [2]], lambda k: {"patience": patience}
    ) as made:
        made.start()
        made.wait(1, "round 6/40")
        process = made.processes[1]
        assert process is not None
        process.kill()
        process.join()
        made.start(1)
        made.wait(0, "south is back")
        made.finish()
        events = RunFolder.open(made.out(1)).events()
        (back,) = [event for event in events if event["kind"] == "rejoined"]
        assert back["from"] < back["at"] <= 40
        (whole,), _ = joined([RunFolder.open(made.out(k)) for k in range(3)])
        assert isinstance(whole, JoinedRun)
        gone = [r for r in whole.missing.get("south", []) if r]
        assert gone == list(range(back["from"] + 1, back["at"]))
        assert (whole.summary["status"], whole.summary["rounds"]) == ("finished", 40)
        assert json.loads(json.dumps(whole.summary))["partial"] == bool(gone)


def test_ctrl_c_ends_one_site_and_the_others_go_on(tmp_path: Path) -> None:
    settings = run_of(rounds=30, network={"delay": 0.1})
    with sites(tmp_path, settings, [[0], [1], [2]]) as made:
        made.start()
        made.wait(2, "round 2/30")
        process = made.processes[2]
        assert process is not None
        process.terminate()
        assert made.status(2) == 130
        assert "to take part again: hansa node run" in made.said(2)
        assert made.status(0) == made.status(1) == 0
        assert "east has ended" in made.said(0)
        ended = RunFolder.open(made.out(2)).summary or {}
        assert ended["status"] == "interrupted"
        assert (RunFolder.open(made.out(0)).summary or {})["rounds"] == 30


def test_what_a_site_does_not_tell_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    settings = run_of(algorithm="fedavg")
    with sites(tmp_path, settings, [[0], [1], [2], [3]], lambda k: {"tells": []}) as made:
        made.start(0)
        assert made.status(0) == 2
        text = made.said(0)
        assert "tells = []: the run asks this site to tell how many examples its clients" in text
        assert "fix: tells: [sizes], if others may know" in text
        assert not made.out(0).exists()


def test_settings_that_differ_stop_the_site_that_differs(tmp_path: Path) -> None:
    settings = run_of(rounds=2)
    with sites(tmp_path, settings, [[0], [1], [2]]) as made:
        other = (tmp_path / "run.yaml").read_text().replace("local_steps: 2", "local_steps: 3")
        (tmp_path / "other.yaml").write_text(other)
        made.change(2, run="other.yaml")
        made.start()
        assert made.status(2) == 2
        assert "different settings of: train.local_steps; make them the same" in made.said(2)
        made.change(2, run="run.yaml")
        made.start(2)
        made.finish()
        assert "train.local_steps" in made.said(0)
        for line in ("site 0 and site 2", "site 1 and site 2"):  # one line, whoever says it
            assert line in made.said(2) or line in made.said(0) + made.said(1)
        assert "site 2 and site" not in made.said(0) + made.said(1) + made.said(2)
        peers = json.loads((made.out(0) / "peers.json").read_text())["peers"]
        assert min(peer["round"] for peer in peers) >= 1  # as it was at the end


def test_a_key_that_nobody_knows_and_one_that_has_expired(tmp_path: Path) -> None:
    with sites(tmp_path, run_of(rounds=2), [[0], [1], [2]]) as made:
        Key.generate("stranger").save(tmp_path / "stranger.key")
        made.change(2, key="stranger.key")
        made.start()
        assert made.status(2) == 2
        assert "peers: " in made.said(2)
        (tmp_path / "broken.key").write_text("no key")
        (tmp_path / "broken.key").chmod(0o600)
        made.change(2, key="broken.key")
        made.start(2)
        assert made.status(2) == 2
        assert "holds no private key" in made.said(2)
        made.change(2, key="east.key")
        made.start(2)
        made.finish()


def test_a_port_in_use_and_too_few_sites(tmp_path: Path) -> None:
    with sites(tmp_path, run_of(rounds=2), [[0], [1], [2]]) as made:
        patience = {"start": 3.0, "peer": 240.0}
        made.change(0, listen=f"127.0.0.1:{made.ports[1]}", patience=patience)
        made.start(1)
        made.wait(1, "waiting for")
        taken = yaml_without_address(made, 0, 1)
        made.start(0)
        assert made.status(0) == 2
        assert "listen" in made.said(0), taken
        assert "in use" in made.said(0)
        made.change(0, listen=f"127.0.0.1:{made.ports[0]}")
        made.start(0)
        assert made.status(0) == 2
        assert "after 3 s there are 2 of 3 sites, not east" in made.said(0)
        assert not made.out(0).exists()
        made.change(0, patience={"start": 240.0, "peer": 240.0})
        made.start(0, 2)
        made.finish()


def test_two_sites_that_only_dial_train_through_a_third(tmp_path: Path) -> None:
    with sites(tmp_path, run_of(rounds=2), [[0], [1], [2]]) as made:
        yaml_without_address(made, 0, 1)
        yaml_without_address(made, 0, 2)
        made.change(0, relay=True)
        for k in (1, 2):
            yaml_without_address(made, k, 3 - k)
            peers = yaml.safe_load(made.file(k).read_text())["peers"]
            peers = [{**peer, "relay": peer["address"] is not None} for peer in peers]
            made.change(k, listen=None, peers=peers)
        made.start()
        made.finish()
        assert [RunFolder.open(made.out(k)).summary["rounds"] for k in range(3)] == [2, 2, 2]


def yaml_without_address(made: Any, k: int, other: int) -> str:
    """A site's file in which a peer only dials, so that two may claim one port."""
    site = yaml.safe_load(made.file(k).read_text())
    for peer in site["peers"]:
        if (peer["address"] or "").endswith(str(made.ports[other])):
            peer["address"] = None
    made.file(k).write_text(yaml.safe_dump(site))
    return str(site["listen"])


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
