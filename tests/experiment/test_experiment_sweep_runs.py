"""A sweep from its first run to its last, with runs that fail and runs that are killed."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars
import pytest

from hansa.base.errors import CheckpointError, ConfigError
from hansa.cli import main
from hansa.experiment.run import run as run_alone
from hansa.experiment.sweep.crew import Crew, Order, noted_in
from hansa.experiment.sweep.sweep_file import SweepFile, with_options
from hansa.experiment.sweep.sweep_folder import SweepFolder
from hansa.experiment.sweep.sweeping import How, Swept, as_sweep, resume_sweep, sweep
from hansa.report import RunFolder
from hansa.report.folder import held

from ..toy.runs_here import RunsHere

SULKY = '''
"""D-PSGD that fails with seed 2 and is killed with seed 3, until a file is there."""
import os
import signal
from pathlib import Path

from pydantic import Field

from hansa import register
from hansa.learn.gossip.dpsgd import DPSGD


@register("sulky")
class Sulky(DPSGD):
    mended: Path = Field(description="the file")
    seed: int = Field(0, description="changes nothing")

    def outgoing(self, block, t):
        if t == 2 and not self.mended.exists():
            if block.streams.seed == 2:
                raise RuntimeError("a bad day")
            if block.streams.seed == 3:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().outgoing(block, t)
'''


QUIET = How(quiet=True, jobs=1, places=RunsHere)


def base(folder: Path) -> dict[str, Any]:
    (folder / "sulky.py").write_text(SULKY)
    return {
        "plugins": [str(folder / "sulky.py")],
        "nodes": 4,
        "rounds": 4,
        "topology": "ring",
        "algorithm": {"name": "sulky", "mended": str(folder / "mended")},
        "train": {"local_steps": 1},
        "checkpoint": {"every": 1},
    }


def figures(folder: RunFolder) -> polars.DataFrame:
    frame = folder.metrics().filter(polars.col("name") != "round_seconds")
    return frame.drop("time").sort(["round", "name", "node"])


@dataclass
class Story:
    """A sweep in two sittings: with runs that fail, and once what was wrong is mended."""

    folder: Path
    settings: dict[str, Any]
    before: Swept
    statuses: dict[str, str]
    kept: Swept
    after: Swept


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("sweep")
    settings = base(folder)
    whole = with_options(as_sweep(settings), ["train.optimizer.lr=0.1"], seeds=3)
    before = sweep(whole, folder / "out", how=How(quiet=True, jobs=2))
    statuses = {name: one["status"] for name, one in before.outcomes.items()}
    (folder / "mended").touch()
    kept = resume_sweep(folder / "out", how=QUIET)
    after = resume_sweep(folder / "out", {"seeds": 4}, replace(QUIET, retry=True))
    return Story(folder, settings, before, statuses, kept, after)


def test_a_run_that_fails_stops_no_other(story: Story) -> None:
    assert story.statuses == {"seed-1": "finished", "seed-2": "failed", "seed-3": "failed"}
    facts = story.before.facts()
    assert facts["status"] == "unfinished"
    failed = {one["run"]: one["error"] for one in facts["failed"]}
    assert failed.keys() == {"seed-2", "seed-3"}
    assert "a bad day" in failed["seed-2"]
    assert "SIGKILL" in failed["seed-3"]


def test_what_failed_goes_on_from_its_checkpoint_when_asked(story: Story) -> None:
    kept = {name: one["status"] for name, one in story.kept.outcomes.items()}
    assert kept == story.statuses  # what failed is not tried again unasked
    after = {name: one["status"] for name, one in story.after.outcomes.items()}
    assert after == dict.fromkeys(["seed-1", "seed-2", "seed-3", "seed-4"], "finished")
    events = RunFolder.open(story.folder / "out/runs/seed-3").events()
    assert [event["round"] for event in events if event["kind"] == "resumed"] == [2]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_run_is_the_same_as_by_itself(story: Story, seed: int, tmp_path: Path) -> None:
    settings = {
        **story.settings,
        "seed": seed,
        "train": {"local_steps": 1, "optimizer": {"lr": 0.1}},
    }
    alone = run_alone(settings, tmp_path / "run", report=False)
    assert figures(RunFolder.open(story.folder / f"out/runs/seed-{seed}")).equals(figures(alone))


def test_the_folder_describes_itself(story: Story) -> None:
    out = story.folder / "out"
    assert SweepFile.parse(SweepFolder.open(out).read()).seeds == 4
    assert (out / "report.html").exists()
    table = polars.read_csv(out / "table.csv")
    row = table.filter(polars.col("metric") == "accuracy").to_dicts()[0]
    (setting,) = story.after.table()
    assert row["mean"] == pytest.approx(setting["mean"])
    assert setting["n"] == row["n"] == 4
    assert setting["worst"] == min(
        RunFolder.open(run).summary["final"]["accuracy"] for run in setting["runs"]
    )
    assert setting["seeds"] == [1, 2, 3, 4]
    assert len(json.loads((out / "runs.json").read_text())) == 4


def test_the_command_says_what_came_of_it(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--resume", str(story.folder / "out"), "--json", "-q"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["status"] == "finished"
    assert said["runs"] == {"finished": 4}
    (row,) = said["settings"]
    assert (row["metric"], row["n"]) == ("accuracy", 4)
    assert row["std"] > 0
    assert len(row["runs"]) == 4
    assert main(["sweep", "--resume", str(story.folder / "out"), "-q"]) == 0
    assert "4" in capsys.readouterr().out


def test_a_sweep_that_was_killed_goes_on(story: Story, tmp_path: Path) -> None:
    """The sweep's process and its runs are gone: no summary, no note of an end."""
    out = tmp_path / "out"
    shutil.copytree(story.folder / "out", out)
    (out / "runs/seed-4/summary.json").unlink()
    (out / "notes/seed-4.json").write_text('{"status": "running", "done": 2, "of": 4}')
    shutil.rmtree(out / "runs/seed-3")
    (out / "runs/seed-3").mkdir()
    (out / "runs/seed-3/environment.json").touch()  # killed before it was a run
    (out / "notes/seed-3.json").write_text('{"status": "running"}')
    again = resume_sweep(out, how=QUIET)
    assert {one["status"] for one in again.outcomes.values()} == {"finished"}
    for seed in (3, 4):
        before = RunFolder.open(story.folder / f"out/runs/seed-{seed}")
        assert figures(RunFolder.open(out / f"runs/seed-{seed}")).equals(figures(before))


def test_what_would_make_it_another_sweep_is_refused(story: Story) -> None:
    out = story.folder / "out"
    with pytest.raises(ConfigError, match="leave out runs"):
        resume_sweep(out, {"seeds": 2}, QUIET)
    with pytest.raises(ConfigError, match="not empty"):
        sweep(as_sweep("dpsgd"), out, how=QUIET)
    with held(out), pytest.raises(CheckpointError, match="another process"):
        resume_sweep(out, how=QUIET)
    with pytest.raises(CheckpointError, match=r"no sweep\.yaml"):
        resume_sweep(out / "runs", how=QUIET)


def test_settings_that_do_not_fit_the_data_are_told_before_any_run(tmp_path: Path) -> None:
    whole = with_options(as_sweep("dpsgd"), ["nodes=4", "topology.degree=2,6"])
    with pytest.raises(ConfigError, match=r"topology\.degree=6") as caught:
        sweep(whole, tmp_path / "out", how=QUIET)
    assert "1 of 2 cannot work" in str(caught.value)
    assert not (tmp_path / "out").exists()


# -- the crew, with processes that are made up


@dataclass
class MadeUp:
    """Processes that end when they are told to, or by themselves."""

    ends: dict[str, str]
    running: dict[int, dict[str, Any]] = field(default_factory=dict)
    most: int = 0
    begun: list[str] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)
    dead: dict[int, int] = field(default_factory=dict)

    def start(self, site: int, packet: dict[str, Any]) -> None:
        self.running[site] = packet
        self.begun.append(packet["name"])
        self.most = max(self.most, len(self.running))

    def status(self, site: int) -> int | None:
        if site in self.dead:
            self.running.pop(site)
            return self.dead[site]
        how = self.ends[self.running[site]["name"]]
        if how == "hangs":
            return None
        packet = self.running.pop(site)
        if how == "dies":
            return -11
        Path(packet["note"]).write_text(json.dumps({"status": how}))
        return 0

    def interrupt(self, site: int) -> None:
        packet = self.running[site]
        self.told.append((packet["name"], "interrupt"))
        if len([one for one in self.told if one[0] == packet["name"]]) == packet["patience"]:
            Path(packet["note"]).write_text(json.dumps({"status": "interrupted"}))
            self.dead[site] = 0

    def kill(self, site: int) -> None:
        self.told.append((self.running[site]["name"], "kill"))
        self.dead[site] = -9

    def close(self) -> None:
        pass


def orders(folder: Path, ends: dict[str, str], patience: int = 99) -> list[Order]:
    return [
        Order(name, folder / f"{name}.json", {"name": name, "patience": patience}) for name in ends
    ]


def test_as_many_at_a_time_as_there_are_jobs(tmp_path: Path) -> None:
    ends = {f"r{k}": "dies" if k == 3 else "finished" for k in range(7)}
    places = MadeUp(ends)
    outcomes = Crew(places, 3, lambda crew: None).work(orders(tmp_path, ends))
    assert places.most <= 3
    assert places.begun == list(ends)
    assert {name for name, one in outcomes.items() if one["status"] == "finished"} == (
        set(ends) - {"r3"}
    )
    assert outcomes["r3"]["status"] == "failed"
    assert "SIGSEGV" in outcomes["r3"]["error"]
    assert noted_in(tmp_path / "r3.json") == outcomes["r3"]


@pytest.mark.parametrize(("patience", "times"), [(1, 1), (2, 2), (99, 3)])
def test_interrupts_end_what_runs_and_begin_nothing(
    tmp_path: Path, patience: int, times: int
) -> None:
    ends = {"a": "finished", "b": "hangs", "c": "hangs", "d": "finished"}
    places, asked = MadeUp(ends), []

    def told(crew: Crew) -> None:
        if "a" in crew.outcomes and len(asked) < times and crew.running:
            asked.append(1)
            raise KeyboardInterrupt

    crew = Crew(places, 2, told)
    outcomes = crew.work(orders(tmp_path, ends, patience))
    assert crew.asked == times
    assert "d" not in places.begun
    assert {outcomes[name]["status"] for name in "bc"} == {"interrupted"}
    assert ("b", "kill") in places.told if times == 3 else ("b", "kill") not in places.told


def test_who_is_interrupted_before_it_hears_is_no_failure(tmp_path: Path) -> None:
    """A process is asked to end that has not begun to listen: SIGTERM ends it at once."""
    places = MadeUp({"a": "hangs"})

    def interrupt(site: int) -> None:
        places.dead[site] = -signal.SIGTERM

    def told(crew: Crew) -> None:
        if not crew.asked:
            raise KeyboardInterrupt

    places.interrupt = interrupt  # type: ignore[method-assign]
    outcomes = Crew(places, 1, told).work(orders(tmp_path, {"a": "hangs"}))
    assert outcomes["a"]["status"] == "interrupted"


def test_a_seed_in_a_part_is_a_setting_like_any_other(tmp_path: Path) -> None:
    settings = {**base(tmp_path), "rounds": 1}
    whole = with_options(as_sweep(settings), ["algorithm.seed=1,2"])
    table = sweep(whole, tmp_path / "out", how=QUIET).table()
    assert [(row["setting"], row["n"]) for row in table] == [
        ("algorithm.seed=1", 1),
        ("algorithm.seed=2", 1),
    ]


LINES = '''
"""A sink that writes down what it is told of a run among others."""
import json
from pathlib import Path

from pydantic import Field

from hansa.base.component import register
from hansa.report.sink import Sink


@register("told")
class Told(Sink):
    path: Path = Field(description="where")

    def begin(self, run):
        self.path.mkdir(exist_ok=True)
        facts = {"group": run.group, "tags": dict(run.tags)}
        (self.path / run.folder.name).write_text(json.dumps(facts))

    def record(self, round, figures):
        pass

    def end(self, status):
        pass
'''


def test_what_it_took_is_told_and_sinks_know_the_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "told.py").write_text(LINES)
    settings = {
        "plugins": [str(tmp_path / "told.py")],
        "nodes": 4,
        "rounds": 3,
        "topology": "ring",
        "model": "logistic",
        "evaluate": {"every": 1},
        "sinks": [{"name": "told", "path": str(tmp_path / "sink")}],
        "until": {"reaches": 0.15, "metric": "accuracy"},
    }
    whole = with_options(as_sweep(settings), ["train.optimizer.lr=0.000001,0.2"], seeds=2)
    out = tmp_path / "a sweep"
    slow, fast = sweep(whole, out, how=QUIET).table()
    target = "accuracy >= 0.15"
    assert fast["reached"][target]["round"]["n"] == 2
    assert slow["reached"][target]["round"]["n"] <= fast["reached"][target]["round"]["n"]
    told = json.loads((tmp_path / "sink/lr-0.2-seed-2").read_text())
    assert told["group"] == "a sweep"
    assert told["tags"] == {"train.optimizer.lr": "0.2", "seed": "2"}
    assert main(["sweep", "--resume", str(out), "--reach", "accuracy=99%", "-q"]) == 0
    said = capsys.readouterr().out
    assert "To reach accuracy ≥ 99.00 %" in said
    assert "0 of 2" in said
    assert "lr 0.2" in said
    assert SweepFile.parse(SweepFolder.open(out).read()).reach == ("accuracy=99%",)
    assert "To reach accuracy" in (out / "report.html").read_text()


def test_no_more_seeds_of_what_diverged(tmp_path: Path) -> None:
    settings = {"nodes": 4, "rounds": 3, "topology": "ring", "train": {"local_steps": 4}}
    whole = with_options(as_sweep(settings), ["train.optimizer.lr=0.05,1e12"], seeds=2)
    swept = sweep(whole, tmp_path / "out", how=replace(QUIET, drop_diverged=True))
    statuses = [one["status"] for one in swept.outcomes.values()]
    assert sorted(statuses) == ["diverged", "finished", "finished", "spared"]
    fine, lost = swept.table()
    assert (fine["diverged"], lost["diverged"]) == ([], [1])
    again = resume_sweep(tmp_path / "out", how=QUIET)
    assert [one["status"] for one in again.outcomes.values()] == statuses
    assert again.facts()["status"] == "finished"
