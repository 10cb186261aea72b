"""An artefact whose building is killed, anywhere, goes on to the same bytes."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hansa.base.errors import ConfigError
from hansa.combine.merge.artefact import Artefact
from hansa.weights.model_folder import ModelFolder

BUILD = """
import os, signal, sys
from pathlib import Path
from hansa.combine.merge.algorithms.averaging import Averaging
from hansa.combine.merge.algorithms.emr import Emr
from hansa.combine.merge.algorithms.ties import Ties
from hansa.combine.merge.artefact_building import build_artefact
from hansa.weights.model_folder import ModelFolder

sources, place, stage, number = sys.argv[1:]
def progress(what, done, of):
    if (what, done) == (stage, int(number)):
        os.kill(os.getpid(), signal.SIGKILL)
folders = [ModelFolder.open(Path(sources) / name) for name in ("base", "task0", "task1", "task2")]
build_artefact(
    folders[1:], folders[0], Path(place), [Averaging(), Ties(), Emr()], progress=progress
)
"""
Make = Callable[..., tuple[list[ModelFolder], ModelFolder]]


def build(sources: Path, place: Path, stage: str = "never", number: int = 0) -> int:
    command = [sys.executable, "-c", BUILD, str(sources), str(place), stage, str(number)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=env, check=False).returncode


def digest(place: Path) -> dict[str, str]:
    """Of every file but the note of where the models lay."""
    return {
        file.relative_to(place).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(place.rglob("*"))
        if file.is_file() and file.name != "build.json"
    }


def test_killed_at_any_stage_it_ends_in_the_same_bytes(make_models: Make, tmp_path: Path) -> None:
    make_models(3)
    sources = tmp_path / "models"
    assert build(sources, tmp_path / "whole") == 0
    place = tmp_path / "killed"
    for stage, number in (("read", 3), ("ranked", 8), ("measured", 4)):
        assert build(sources, place, stage, number) == -signal.SIGKILL
        with pytest.raises(ConfigError, match="begun and not finished"):
            Artefact.open(place)
    assert build(sources, place) == 0
    assert digest(place) == digest(tmp_path / "whole")


def test_what_was_begun_with_other_models_is_not_gone_on_with(
    make_models: Make, tmp_path: Path
) -> None:
    models, _ = make_models(3)
    sources, place = tmp_path / "models", tmp_path / "a"
    assert build(sources, place, "read", 2) == -signal.SIGKILL
    file = models[1].path / "model.safetensors"
    os.utime(file, ns=(1, 1))
    assert build(sources, place) == 1
