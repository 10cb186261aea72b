"""A verb of a user's own, in one file: its runs are begun, held, interrupted, taken up and shown
as those of hansa's own verbs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import polars
import pytest

from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.modules import load_module
from hansa.cli import main
from hansa.experiment import settings_file
from hansa.experiment.settings_file import kind_of
from hansa.report import RunFolder
from hansa.report.folder import held

FILE = Path(__file__).with_name("toy.py")
LIMIT = 250


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(settings_file, "_files", dict(settings_file._files))
    module = load_module(str(FILE))
    assert isinstance(module, ModuleType)
    return module


def figures(folder: RunFolder) -> polars.DataFrame:
    return folder.metrics().drop("time").sort(["round", "name"])


def interrupt_at(when: int) -> Callable[[int, float], None]:
    def tell(done: int, gap: float) -> None:
        if done == when:
            raise KeyboardInterrupt

    return tell


def test_it_is_small() -> None:
    assert len(FILE.read_text(encoding="utf-8").splitlines()) < LIMIT


def test_numbers_come_to_their_mean(toy: ModuleType, tmp_path: Path) -> None:
    folder = toy.run({"rounds": 400}, tmp_path / "run")
    state = toy.read_bundle(folder.path / "state")[1]["numbers"].numpy()
    aim = toy.ToyFile.parse({}).numbers().mean()
    assert abs(state - aim).max() < 1e-6
    summary = folder.summary
    assert summary["status"] == "finished"
    assert summary["bytes_sent"] == 400 * 2 * 4 * 8
    left = {path.name for path in folder.path.iterdir()}
    assert {"config.yaml", "environment.json", "report.html"} <= left


@pytest.mark.parametrize("when", [1, 5, 7, 12])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    toy: ModuleType, tmp_path: Path, when: int
) -> None:
    whole = toy.run({"rounds": 12}, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        toy.run({"rounds": 12}, tmp_path / "run", interrupt_at(when))
    folder = RunFolder.open(tmp_path / "run")
    assert (folder.summary or {})["status"] == "interrupted"
    assert (folder.summary or {})["rounds"] == when
    assert not (folder.path / "report.html").exists()
    again = toy.resume(folder.path)
    assert figures(again).equals(figures(whole))
    state = [folder.path / "state.safetensors" for folder in (again, whole)]
    assert state[0].read_bytes() == state[1].read_bytes()
    ours, theirs = again.summary, whole.summary
    assert {k: v for k, v in ours.items() if k != "run_dir"} == {
        k: v for k, v in theirs.items() if k != "run_dir"
    }


def test_a_failure_is_written_down_with_what_was_measured(toy: ModuleType, tmp_path: Path) -> None:
    def tell(done: int, gap: float) -> None:
        if done == 3:
            raise ZeroDivisionError("a slip")

    with pytest.raises(ZeroDivisionError):
        toy.run({}, tmp_path / "run", tell)
    folder = RunFolder.open(tmp_path / "run")
    assert (folder.summary or {})["status"] == "failed"
    assert folder.metrics()["round"].max() == 3
    assert "failed" in (folder.path / "report.html").read_text(encoding="utf-8")


def test_what_cannot_be_is_refused_before_anything_is_written(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="more than 16 parties") as caught:
        toy.run({"pairs": 9})
    assert caught.value.field == "pairs"
    assert list(tmp_path.iterdir()) == []
    made = toy.run({"rounds": 1})
    assert made.path.parent.name == "runs"
    assert made.path.name.startswith("toy-")
    with pytest.raises(ConfigError, match="not empty"):
        toy.run({}, made.path)
    before = (made.path / "events.jsonl").read_bytes()
    with pytest.raises(ConfigError, match="cannot change"):
        toy.resume(made.path, {"seed": 3})
    with pytest.raises(ConfigError, match="finished its 1 rounds"):
        toy.resume(made.path)
    with held(made.path), pytest.raises(CheckpointError, match="another process"):
        toy.resume(made.path, {"rounds": 2})
    assert (made.path / "events.jsonl").read_bytes() == before
    assert toy.resume(made.path, {"rounds": 2}).config["rounds"] == 2


def test_a_damaged_state_is_named(toy: ModuleType, tmp_path: Path) -> None:
    made = toy.run({"rounds": 5}, tmp_path / "run")
    file = made.path / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match=r"state\.safetensors: is corrupt"):
        toy.resume(made.path, {"rounds": 9})


def test_its_file_is_known_by_its_verb(
    toy: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kind_of({"verb": "toy"}) is toy.ToyFile
    assert kind_of({"pairs": 3}) is toy.ToyFile
    (tmp_path / "toy.yaml").write_text(f"plugins: [{FILE}]\nverb: toy\n")
    assert main(["learn", str(tmp_path / "toy.yaml")]) == 2
    assert "hansa toy FILE" in capsys.readouterr().err
    made = toy.run({"rounds": 1}, tmp_path / "run")
    assert main(["learn", "--resume", str(made.path)]) == 2
    assert "not the folder of a run of hansa learn" in capsys.readouterr().err


def test_report_and_compare_show_it(
    toy: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(toy.run({"rounds": 9, "pairs": k}, tmp_path / f"r{k}").path) for k in (1, 4)]
    assert main(["report", runs[0], "--plugin", str(FILE)]) == 0
    said = capsys.readouterr().out
    assert "Disagreement" in said
    assert "at first" in said
    page = (Path(runs[0]) / "report.html").read_text(encoding="utf-8")
    assert "16 parties look for their mean, 1 pairs a round" in page
    out = tmp_path / "page.html"
    assert main(["compare", *runs, "--out", str(out), "--plugin", str(FILE), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["runs"]) == 2
    assert "disagreement" in out.read_text(encoding="utf-8")


def test_a_request_to_end_is_an_interrupt(toy: ModuleType, tmp_path: Path) -> None:
    """In a process of its own, as a user runs it; it goes on to where a run by itself ends."""
    (tmp_path / "toy.yaml").write_text("rounds: 1000000\nsave_every: 1\n")
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "toy"]
    paths = [str(FILE.parent), *sys.path]
    env: dict[str, Any] = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    words = ["run", str(tmp_path / "toy.yaml"), "--out", str(folder)]
    with subprocess.Popen([*command, *words], env=env, stderr=subprocess.PIPE, text=True) as going:
        assert going.stderr is not None
        first = going.stderr.readline()
        going.send_signal(signal.SIGTERM)
        said = going.communicate()[1]
    assert first.startswith("round 1:"), first + said
    assert going.returncode == 130
    assert "goes on" in said
    done = json.loads((folder / "summary.json").read_text())
    assert done["status"] == "interrupted"
    rounds = done["rounds"] + 3
    words = ["resume", str(folder), "--set", f"rounds={rounds}"]
    subprocess.run([*command, *words], env=env, check=True, capture_output=True)
    whole = toy.run({"rounds": rounds, "save_every": 1}, tmp_path / "whole")
    assert figures(RunFolder.open(folder)).equals(figures(whole))
