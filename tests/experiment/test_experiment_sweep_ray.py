"""Sweeps whose runs Ray gives a place: the same results, and what becomes of lost ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hansa.base.errors import ConfigError
from hansa.experiment.sweep import on_ray
from hansa.experiment.sweep.crew import Crew, Order
from hansa.experiment.sweep.on_ray import OnRay, check_runs
from hansa.experiment.sweep.sweep_file import with_options
from hansa.experiment.sweep.sweeping import How, as_sweep, resume_sweep, sweep
from hansa.report import RunFolder

from ..toy.runs_here import RunsHere


class MadeUpRay:
    """A launcher whose actors end as they are told to."""

    over = False
    cores = 4.0

    def __init__(self, **told: Any) -> None:
        self.told, self.begun, self.ends = told, [], {}

    def ready(self, seconds: float) -> str:
        return "here"

    def begin(self, site: int, packet: dict[str, Any]) -> None:
        self.begun.append((site, packet["task"]))
        folder = Path(packet["folder"])
        again = len([one for one in self.begun if one[0] == site]) > 1
        if packet["lost"] > again:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.yaml").write_text("seed: 1\n...\n")
            self.ends[site] = "was lost (ActorDiedError: its machine is gone)"
        else:
            Path(packet["note"]).write_text(json.dumps({"status": "finished"}))
            self.ends[site] = "ended with status 0"

    def ended(self, site: int) -> str | None:
        return self.ends.get(site)

    def close(self) -> None:
        pass


def test_a_run_whose_actor_is_lost_goes_on_in_another_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "_Launcher", MadeUpRay)
    monkeypatch.setattr(on_ray, "check_address", lambda address: None)
    places = OnRay(tmp_path, 1, "ray", 4, 2)
    assert places.room == 2
    orders = []
    for k, lost in enumerate((0, 1, 2)):
        folder = tmp_path / "runs" / str(k)
        packet = {"task": "begin", "folder": str(folder), "lost": lost}
        orders.append(Order(f"r{k}", tmp_path / f"{k}.json", packet))
    outcomes = Crew(places, 2, lambda crew: None).work(orders)
    assert [one["status"] for one in outcomes.values()] == ["finished", "finished", "failed"]
    assert "its machine is gone" in outcomes["r2"]["error"]
    launcher: Any = places._launcher
    assert sorted(launcher.begun) == [
        (1, "begin"), (2, "begin"), (2, "resume"), (3, "begin"), (3, "resume"),
    ]  # fmt: skip
    assert {packet["threads"] for packet in places._packets.values()} == {2}


def test_an_interrupt_leaves_what_has_no_place_to_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(MadeUpRay):
        def begin(self, site: int, packet: dict[str, Any]) -> None:
            self.begun.append((site, packet["task"]))

        def interrupt(self, site: int) -> bool:
            self.ends[site] = "was lost (ActorDiedError: it was killed)"
            return site != 1

    monkeypatch.setattr(on_ray, "_Launcher", Full)
    monkeypatch.setattr(on_ray, "check_address", lambda address: None)
    places = OnRay(tmp_path, 1, "ray", 4, 1)
    orders = [
        Order(f"r{k}", tmp_path / f"{k}.json", {"task": "begin", "folder": str(tmp_path / str(k))})
        for k in range(3)
    ]

    def told(crew: Crew) -> None:
        if crew.running and not crew.asked:
            raise KeyboardInterrupt

    outcomes = Crew(places, 2, told).work(orders)
    assert {name: one["status"] for name, one in outcomes.items()} == {
        "r0": "interrupted", "r1": "failed",  # this one's actor died at it
    }  # fmt: skip


def test_a_run_that_was_lost_before_it_was_one_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "_Launcher", MadeUpRay)
    monkeypatch.setattr(on_ray, "check_address", lambda address: None)
    monkeypatch.chdir(tmp_path)
    places = OnRay(tmp_path, 1, "ray", 4, 1)
    launcher: Any = places._launcher
    note = {"note": "note.json", "log": "a.log"}
    places.start(1, {"task": "begin", "folder": "half", "lost": 1, **note})
    (tmp_path / "half/config.yaml").rename(tmp_path / "half/environment.json")
    assert places.status(1) is None
    assert launcher.begun == [(1, "begin"), (1, "begin")]
    assert not (tmp_path / "half").exists()
    assert places.status(1) == 0
    told = places._packets[1]
    assert all(Path(told[key]).is_absolute() for key in ("folder", "note", "log"))


def test_a_cluster_that_does_not_fit_is_told_of_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(MadeUpRay):
        def ready(self, seconds: float) -> str:
            raise ConfigError("runtime.address", "a:1", "has 1 CPUs, and 2 are needed", "fewer")

    monkeypatch.setattr(on_ray, "_Launcher", Small)
    monkeypatch.setattr(on_ray, "check_address", lambda address: None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    small = {"nodes": 4, "rounds": 1, "topology": "ring", "model": "logistic"}
    with pytest.raises(ConfigError, match="2 are needed") as caught:
        sweep(as_sweep(small), tmp_path / "out", how=How(quiet=True, on="a:1"))
    assert caught.value.field == "on"
    assert not list(tmp_path.glob("hansa-sweep-*"))


def test_ray_places_runs_or_their_nodes() -> None:
    check_runs("ray", ["simulate", ""])
    with pytest.raises(ConfigError, match="one of the two"):
        check_runs("ray", ["simulate", "ray"])
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match="on = "):
        on_ray.check_address("nowhere")


@pytest.mark.slow
def test_what_comes_out_is_the_same_on_ray(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    settings = {"nodes": 4, "rounds": 2, "topology": "ring", "model": "logistic"}
    whole = with_options(as_sweep(settings), ["train.optimizer.lr=0.1,0.2"])
    here = sweep(whole, tmp_path / "here", how=How(quiet=True, jobs=1, places=RunsHere))
    command = (sys.executable, "-m", "hansa.cli", "sweep", str(tmp_path / "here/sweep.yaml"))
    out = tmp_path / "on ray"
    done = subprocess.run(
        [*command, "--on", "ray", "--jobs", "2", "--out", str(out), "--json", "-q"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runs"] == {"finished": 2}
    for folder in here.runs():
        there = RunFolder.open(out / "runs" / folder.path.name)
        assert (there.summary or {})["final"] == (folder.summary or {})["final"]
    more = resume_sweep(out, {"seeds": 2}, How(quiet=True, jobs=1, places=RunsHere))
    assert {one["status"] for one in more.outcomes.values()} == {"finished"}
