"""A disk that is full at whatever moment: it is named, nothing is lost, and the run can go on."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars
import pytest

from hansa.base import bundle, files
from hansa.base.errors import DiskError, HansaError, HansaWarning
from hansa.cli import main
from hansa.cli.answer import Answer
from hansa.combine.ensemble.run import ensemble
from hansa.engine.runtimes import checkpoint
from hansa.experiment import override, resume, run
from hansa.report import RunFolder, folder

SMALL = (
    "nodes=2", "rounds=3", "evaluate.every=1", "topology=ring", "model=logistic",
    "train.strategy=looped", "checkpoint.every=1", "checkpoint.keep=9", "data.train_samples=100",
)  # fmt: skip


class Disk:
    """Counts what is written, and from some moment on is full."""

    def __init__(self) -> None:
        self.written: list[Path] = []
        self.room = 10**6

    @contextlib.contextmanager
    def writing(self, path: Path) -> Iterator[None]:
        with self.real(path):
            self.written.append(path)
            if len(self.written) > self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            yield

    real = staticmethod(files.writing)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk()
    for room in (bundle, files, folder, checkpoint):
        monkeypatch.setattr(room, "writing", made.writing)
    return made


def figures(of: RunFolder) -> polars.DataFrame:
    found = of.metrics().filter(polars.col("name") != "round_seconds").drop("time")
    return found.sort(["round", "name", "node"], nulls_last=True)


@pytest.mark.filterwarnings("ignore::hansa.base.errors.HansaWarning")
def test_a_disk_that_is_full_at_any_write(tmp_path: Path, disk: Disk) -> None:
    """Each write of a run in turn is the first that fails; then there is room again."""
    whole = run(override({}, SMALL), tmp_path / "whole", report=False)
    for room in itertools.count():
        path = tmp_path / f"run{room}"
        disk.written, disk.room = [], room
        try:
            run(override({}, SMALL), path, report=False)
        except HansaError as error:
            said, failed = str(error), error
            assert "No space left on device" in said, room
            assert str(path) in said, room
            if failed.folder is not None:  # what was measured is there, on disk or in memory
                done = (failed.summary or {})["rounds"]
                seen = failed.folder.metrics()["round"].to_list()
                assert max(seen, default=0) >= done
        else:
            assert len(disk.written) <= room, f"nothing was said of a full disk at write {room}"
            break
        disk.room = 10**6
        if not (path / "config.yaml").exists():
            again = run(override({}, SMALL), path, report=False)
        elif (RunFolder.open(path).summary or {}).get("status") == "finished":
            again = RunFolder.open(path)
        else:
            again = resume(path, report=False)
        assert (again.summary or {})["final"] == (whole.summary or {})["final"], room
        assert figures(again).equals(figures(whole)), room
    assert room > 15


def test_a_report_that_cannot_be_written_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise DiskError("report.html", OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr("hansa.report.writing.write_html", full)
    with pytest.warns(HansaWarning, match=r"no report: report\.html.*\n.*hansa report"):
        made = run(override({}, SMALL), tmp_path / "run")
    assert (made.summary or {})["status"] == "finished"
    assert any(event["kind"] == "warning" for event in made.events())


def test_the_command_prints_what_was_measured_and_how_to_go_on(
    tmp_path: Path, disk: Disk, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [word for change in SMALL for word in ("--set", change)]
    disk.room = 14
    assert main(["learn", *sets, "--out", str(tmp_path / "run"), "--no-report", "-q"]) == 1
    said = capsys.readouterr()
    assert "accuracy" in said.out
    assert "No space left on device" in said.err
    assert f"to go on: hansa learn --resume {tmp_path / 'run'}" in said.err


def test_a_warning_comes_after_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a chart")

    monkeypatch.setattr("hansa.report.writing.write_html", broken)
    order: list[str] = []
    for name in ("line", "warn"):
        real: Callable[..., None] = getattr(Answer, name)

        def note(answer: Any, *given: Any, real: Any = real, name: str = name) -> None:
            order.append(name)
            real(answer, *given)

        monkeypatch.setattr(f"hansa.cli.answer.Answer.{name}", note)
    sets = [word for change in SMALL for word in ("--set", change)]
    assert main(["learn", *sets, "--out", str(tmp_path / "run"), "-q"]) == 0
    assert "warning: there is no report: a chart" in capfd.readouterr().err
    assert order[-1] == "warn"


def test_an_ensemble_on_a_full_disk_says_where(tmp_path: Path, disk: Disk) -> None:
    given = {
        "clients": 2,
        "data": {"train_samples": 120},
        "models": ["logistic"],
        "local": {"epochs": 1},
        "rules": ["average"],
        "baselines": {"methods": []},
    }
    disk.room = 16
    with pytest.raises(HansaError, match="No space left on device") as caught:
        ensemble(given, tmp_path / "run", report=False)
    assert str(tmp_path) in str(caught.value)
