"""A run that was interrupted, or whose folder was damaged, goes on as if nothing had happened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import yaml

from hansa.base.errors import CheckpointError, ConfigError, HansaWarning
from hansa.engine.runtimes.checkpoint import sealed
from hansa.experiment import RunFile, override, resume, run
from hansa.report import RunFolder
from hansa.report.folder import held

SMALL = (
    "nodes=4", "rounds=6", "evaluate.every=1", "topology=ring", "model=logistic",
    "train.strategy=looped", "checkpoint.every=2",
)  # fmt: skip


def settings(*changes: str) -> dict[str, Any]:
    return override({}, (*SMALL, *changes))


def interrupt_at(when: int) -> Callable[[int, dict[str, float]], None]:
    def progress(done: int, figures: dict[str, float]) -> None:
        if done == when:
            raise KeyboardInterrupt

    return progress


def figures(folder: RunFolder) -> polars.DataFrame:
    """All that was measured but the clock's."""
    found = folder.metrics().filter(polars.col("name") != "round_seconds").drop("time")
    return found.sort(["round", "name", "node"], nulls_last=True)


@pytest.fixture(scope="module")
def whole(_cache: None, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run without an interrupt, with validation."""
    return run(settings("data.validation=0.2"), tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.parametrize("when", [1, 2, 3, 5])
@pytest.mark.parametrize("every", [1, 2, 400])
def test_an_interrupt_keeps_the_last_round_that_was_done(
    whole: RunFolder, tmp_path: Path, when: int, every: int
) -> None:
    """Whatever the interval of checkpoints; what is said of the whole run remembers all rounds."""
    given = settings("data.validation=0.2", f"checkpoint.every={every}")
    with pytest.raises(KeyboardInterrupt):
        run(given, tmp_path / "run", interrupt_at(when), report=False)
    folder = RunFolder.open(tmp_path / "run")
    assert folder.summary
    assert whole.summary
    assert (folder.summary["status"], folder.summary["rounds"]) == ("interrupted", when)
    assert folder.summary["saved"] == when
    again = resume(folder.path, report=False)
    assert again.summary
    resumed = [event["round"] for event in again.events() if event["kind"] == "resumed"]
    assert resumed == [when]
    assert figures(again).equals(figures(whole))
    for name in ("final", "best", "bytes_sent", "rounds", "status", "energy_joules"):
        assert again.summary[name] == whole.summary[name], name


def test_the_best_round_is_remembered_though_it_was_before_the_interrupt(tmp_path: Path) -> None:
    """Nobody learns any more after the first round, so none is better."""
    frozen = "train.schedule={name: step, milestones: [1], gamma: 1e-30}"
    given = settings("data.validation=0.2", "algorithm=isolated", frozen)
    straight = run(given, tmp_path / "straight", report=False)
    with pytest.raises(KeyboardInterrupt):
        run(given, tmp_path / "run", interrupt_at(4), report=False)
    again = resume(tmp_path / "run", report=False)
    assert straight.summary
    assert again.summary
    assert again.summary["best"] == straight.summary["best"]
    assert again.summary["best"]["round"] == 1


def test_nothing_is_said_of_the_end_while_a_run_goes_on(tmp_path: Path) -> None:
    given = settings()
    with pytest.raises(KeyboardInterrupt):
        run(given, tmp_path / "run", interrupt_at(2), report=False)
    (tmp_path / "run" / "report.html").write_text("old")
    seen: list[bool] = []

    def progress(done: int, _: dict[str, float]) -> None:
        there = [(tmp_path / "run" / name).exists() for name in ("summary.json", "report.html")]
        seen.append(any(there))

    folder = resume(tmp_path / "run", progress=progress, report=False)
    assert seen == [False] * 4
    assert folder.summary
    assert not (folder.path / "report.html").exists()  # no page of an earlier state stays


def test_a_folder_in_which_a_run_goes_on_is_left_as_it_is(tmp_path: Path) -> None:
    """Neither its settings nor its figures are touched before it is ours alone."""
    run(settings("rounds=2"), tmp_path / "run", report=False)
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    with held(tmp_path / "run"), pytest.raises(CheckpointError, match="another process"):
        resume(tmp_path / "run", {"rounds": 4}, report=False)
    after = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert after == before
    with held(tmp_path / "new"), pytest.raises(CheckpointError, match="another process"):
        run(settings("rounds=2"), tmp_path / "new", report=False)
    assert [p.name for p in (tmp_path / "new").iterdir()] == [".lock"]
    run(settings("rounds=2"), tmp_path / "new", report=False)


STOP = ("algorithm={name: fedavg, stop: {window: 1, patience: 1, min_delta: 9}}", "rounds=50")


def test_a_run_that_ended_by_its_own_rule_has_no_round_left(tmp_path: Path) -> None:
    given = settings(*STOP, "evaluate.local_validation=0.2")
    folder = run(given, tmp_path / "run", report=False)
    assert folder.summary
    done = folder.summary["rounds"]
    assert done < 50
    for changes in ({}, {"rounds": 60}):
        with pytest.raises(ConfigError, match=f"own rule after round {done}") as caught:
            resume(folder.path, changes, report=False)
        assert caught.value.field == "resume"
    assert folder.config == RunFolder.open(folder.path).config
    (folder.path / "summary.json").unlink()  # as if it was killed before it could say so
    again = resume(folder.path, report=False)
    assert again.summary
    assert again.summary["rounds"] == done
    assert again.summary["final"] == folder.summary["final"]


def test_a_run_killed_after_its_last_round_is_brought_to_its_end(tmp_path: Path) -> None:
    folder = run(settings(), tmp_path / "run", report=False)
    assert folder.summary
    (folder.path / "summary.json").unlink()
    told: list[int] = []
    again = resume(folder.path, progress=lambda done, _: told.append(done))
    assert told == []  # no round is done twice
    assert again.summary
    assert {**again.summary, "seconds": 0} == {**folder.summary, "seconds": 0}
    assert (again.path / "report.html").exists()
    with pytest.raises(ConfigError, match="has finished its 6 rounds"):
        resume(folder.path)


# -- data ------------------------------------------------------------------------------------------


def table(path: Path, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(240, 3)).round(3)
    rows = [f"{a},{b},{c},{int(a + b > 0)}" for a, b, c in x]
    path.write_text("\n".join(["a,b,c,label", *rows]) + "\n")
    return path


def edges(path: Path) -> Path:
    path.write_text("0 1\n1 2\n2 3\n3 0\n")
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A run file with data, a graph and a model beside it, all by relative paths."""
    there = tmp_path / "there"
    there.mkdir()
    table(there / "x.csv")
    edges(there / "g.edges")
    (there / "nets.py").write_text(
        "from torch import nn\n\ndef net():\n    return nn.Sequential(nn.Linear(3, 2))\n"
    )
    given = settings("rounds=2") | {
        "data": {"name": "file", "path": "x.csv"},
        "topology": {"name": "file", "path": "g.edges"},
        "model": {"name": "module", "path": "nets.py:net"},
    }
    (there / "run.yaml").write_text(yaml.safe_dump(given))
    return there


@pytest.fixture
def begun(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    run(RunFile.load(Path("there/run.yaml")), tmp_path / "run", report=False)
    return tmp_path / "run"


def test_it_goes_on_from_any_folder(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    table(tmp_path / "elsewhere" / "x.csv", seed=1)  # not what is meant
    monkeypatch.chdir(tmp_path / "elsewhere")
    folder = resume("../run", {"rounds": 4}, report=False)
    assert (folder.summary or {})["rounds"] == 4


def spoil_table(place: Path) -> None:
    text = (place / "x.csv").read_text()
    (place / "x.csv").write_text(text[:-2] + ("1\n" if text[-2] == "0" else "0\n"))


def spoil_graph(place: Path) -> None:
    (place / "g.edges").write_text("0 2\n2 1\n1 3\n3 0\n")


@pytest.mark.parametrize(
    ("spoil", "field"), [(spoil_table, "data.path"), (spoil_graph, "topology.path")]
)
def test_other_data_are_refused(
    begun: Path, place: Path, spoil: Callable[[Path], None], field: str
) -> None:
    """By the setting that names them; nothing has changed then, and the old ones put back work."""
    shutil.copytree(place, place.parent / "kept")
    spoil(place)
    before = {p: p.read_bytes() for p in begun.rglob("*") if p.is_file()}
    with pytest.raises(ConfigError, match="the run was begun with") as caught:
        resume(begun, {"rounds": 4}, report=False)
    assert caught.value.field == field
    assert before == {p: p.read_bytes() for p in begun.rglob("*") if p.is_file()}
    shutil.rmtree(place)
    shutil.copytree(place.parent / "kept", place)
    assert (resume(begun, {"rounds": 4}, report=False).summary or {})["rounds"] == 4


def test_a_file_that_says_the_same_in_other_words_is_the_same_data(
    begun: Path, place: Path
) -> None:
    text = (place / "x.csv").read_text()
    (place / "x.csv").write_text(text.replace("\n", "\r\n"))
    resume(begun, {"rounds": 4}, report=False)


def test_changed_code_is_said(begun: Path, place: Path) -> None:
    """It may be the mending of what the run failed of."""
    with (place / "nets.py").open("a") as file:
        file.write("# mended\n")
    with pytest.warns(HansaWarning, match=r"model\.path: .*nets\.py is not the code"):
        folder = resume(begun, {"rounds": 4}, report=False)
    assert [e for e in folder.events() if e["kind"] == "warning"]


# -- damage ----------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def killed(whole: RunFolder, path: Path) -> RunFolder:
    """The same run as if it had been killed after its last round, its measurements in parts."""
    shutil.copytree(whole.path, path)
    (path / "summary.json").unlink()
    shutil.rmtree(path / "metrics")
    found = RunFolder.open(path)
    for t in range(7):
        for row in whole.metrics().filter(polars.col("round") == t).to_dicts():
            place = {key: row[key] for key in ("node", "step", "time", "bytes")}
            found.record(row["round"], row["name"], row["value"], **place)
        if t:  # the start is in one part with the first round
            found.flush()
    return found


@pytest.mark.parametrize(("part", "start"), [(6, 4), (5, 4), (3, 6)])
def test_it_goes_on_from_the_last_whole_part(
    whole: RunFolder, tmp_path: Path, part: int, start: int
) -> None:
    """From the newest checkpoint that what is left of the measurements reaches, if there is one."""
    folder = killed(whole, tmp_path / "run")
    for checkpoint in sealed(folder.path / "checkpoints"):
        file = checkpoint / "manifest.json"
        manifest = yaml.safe_load(file.read_text())
        manifest["part"] = manifest["round"]  # each round is a part here
        file.write_text(json.dumps(manifest))
    broken = folder.path / "metrics" / f"part-{part:06d}.parquet"
    cut(broken)
    with pytest.warns(HansaWarning, match=r"left out\n.*--resume"):
        seen = RunFolder.open(folder.path).metrics()
    assert set(seen["round"]) == set(range(7)) - {part}
    with pytest.warns(HansaWarning) as warned:
        again = resume(folder.path, report=False)
    said = [str(one.message) for one in warned]
    assert any(f"{broken.name}.damaged is damaged and was set aside" in text for text in said)
    assert [e["round"] for e in again.events() if e["kind"] == "resumed"][-1:] == [start]
    if part > start:
        assert figures(again).equals(figures(whole))
    else:  # older than any checkpoint: said, and the rest is there
        assert any(f"rounds {part} to {start}" in text for text in said)
        rest = polars.col("round") != part
        assert figures(again).equals(figures(whole).filter(rest))
    assert (again.summary or {})["final"] == (whole.summary or {})["final"]


def test_a_run_that_diverged_says_so(tmp_path: Path) -> None:
    """In its status and on top of its page, also after a resume that did not see it happen."""
    hot = settings(
        "train.optimizer.lr=1e8", "rounds=4", "train.schedule={name: step, milestones: [1]}"
    )
    with pytest.raises(KeyboardInterrupt):
        run(hot, tmp_path / "run", interrupt_at(2), report=False)
    folder = resume(tmp_path / "run")
    assert folder.summary
    assert folder.summary["status"] == "diverged"
    assert folder.summary["diverged"]["round"] == 1
    page = (folder.path / "report.html").read_text()
    top = page[: page.index("<h2")]
    assert "Training diverged, first in round 1" in top
    assert '<span class="status diverged">' in top
    with pytest.raises(ConfigError, match="has finished its 4 rounds"):
        resume(tmp_path / "run")


@pytest.mark.parametrize("text", ["", "{", "3"])
@pytest.mark.parametrize("name", ["summary", "partition", "topology", "remarks"])
def test_what_a_run_can_do_without_is_left_out(
    whole: RunFolder, tmp_path: Path, name: str, text: str
) -> None:
    """For whoever reads it; and a run that is resumed writes what it had come to."""
    path = tmp_path / "run"
    shutil.copytree(whole.path, path)
    (path / f"{name}.json").write_text(text)
    with pytest.warns(HansaWarning, match=rf"{name}\.json.*is left out"):
        assert RunFolder.open(path).read_json(f"{name}.json") is None
    if name == "summary" and not text:
        with pytest.warns(HansaWarning, match="until the run is resumed"):
            assert resume(path, report=False).summary["final"] == whole.summary["final"]


def test_measurements_and_checkpoints_that_are_gone_are_missed(
    whole: RunFolder, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    shutil.copytree(whole.path, path)
    shutil.rmtree(path / "metrics")
    with pytest.warns(HansaWarning, match="nothing is known any more .* rounds 1 to 6"):
        resume(path, {"rounds": 7}, report=False)
    shutil.rmtree(path / "checkpoints")
    with pytest.warns(HansaWarning, match="no checkpoint any more, so the run begins anew"):
        resume(path, {"rounds": 8}, report=False)
