"""Folders for a while go: at their end, or by the next after their process was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hansa.base import temporary
from hansa.base.temporary import passing_folder

PREFIX = "hansa-here-"
KILLED = f"""
from hansa.base.temporary import passing_folder
with passing_folder({PREFIX!r}) as folder:
    (folder / "a key").write_text("secret")
    print(folder, flush=True)
    input()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(temporary, "_YOUNG", -1.0)
    return tmp_path


def test_it_goes_at_the_end_also_of_what_fails(place: Path) -> None:
    def fails() -> None:
        with passing_folder(PREFIX) as folder:
            assert folder.parent == place
            (folder / "within").mkdir()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert not list(place.iterdir())


def test_the_next_takes_away_what_was_killed_and_nothing_else(place: Path) -> None:
    (place / f"{PREFIX}of-somebody").mkdir()  # without a lock it is nobody's we know
    with passing_folder(PREFIX) as held, passing_folder(PREFIX):
        assert held.is_dir()
        with subprocess.Popen(
            [sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            left = Path(process.stdout.readline().strip())
            with passing_folder(PREFIX):
                assert left.is_dir()
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
        assert (left / "a key").exists()
        with passing_folder(PREFIX):
            assert not left.exists()
        assert held.is_dir()
    assert [one.name for one in place.iterdir()] == [f"{PREFIX}of-somebody"]


def test_one_that_was_just_made_is_left_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "_YOUNG", 60.0)
    young = place / f"{PREFIX}young"
    young.mkdir()
    (young / ".lock").touch()
    with passing_folder(PREFIX):
        assert young.is_dir()
    os.utime(young / ".lock", (1.0, 1.0))
    with passing_folder(PREFIX):
        assert not young.exists()
