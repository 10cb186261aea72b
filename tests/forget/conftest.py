"""A small run that was trained with distillation, and one on marked examples in two workers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from torch import Tensor

from hansa.engine.runtimes.checkpoint import load_block, read_manifest
from hansa.ensemble.synthetic import SHELF
from hansa.experiment import run
from hansa.experiment.trained import present_checkpoint
from hansa.forget import Federation, Forgetting, Judge, Request
from hansa.forget.case import Case
from hansa.forget.classifier import Classifier
from hansa.forget.party import Party
from hansa.forget.playing import tried
from hansa.forget.trained import Trained, open_trained

SETTINGS: dict[str, Any] = {
    "seed": 3,
    "nodes": 5,
    "rounds": 8,
    "data": {
        "name": "digits",
        "normalize": "standardize",
        "partition": {"name": "dirichlet", "alpha": 0.3, "draw": "class", "min_samples": 8},
    },
    "model": {"name": "convnet", "depth": 2, "width": 8},
    "algorithm": {"name": "quickdrop", "keep_updates": 1},
    "train": {
        "local_steps": 3,
        "batch_size": 16,
        "drop_last": False,
        "strategy": "looped",
        "optimizer": {"name": "sgd", "lr": 0.2},
    },
    "evaluate": {"every": 8},
    "checkpoint": {"every": 8},
}


@pytest.fixture(scope="session")
def _trained(_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "trained"
    run(SETTINGS, path, report=False)
    return path


@pytest.fixture
def folder(_trained: Path, tmp_path: Path) -> Path:
    """A run folder of one's own."""
    path = tmp_path / "run"
    shutil.copytree(_trained, path)
    return path


@pytest.fixture(scope="session")
def opened(_trained: Path) -> Trained:
    """The run, to be looked at only."""
    return open_trained(_trained)


@pytest.fixture
def case(opened: Trained) -> Callable[..., Case]:
    """The run with a request: case(classes=[3])."""

    def make(**items: Any) -> Case:
        return opened.case(Request.of(**items))

    return make


def forgotten(case: Case, method: Forgetting, **rows: Any) -> tuple[Any, dict[str, Any], Any]:
    """(the model, the story, the server's federation) once a method was played here."""

    def program(federation: Federation) -> Any:
        row, story = yield from method.forget(federation)
        return row, story, federation

    return tried(case, program, **rows)


def rated(case: Case, row: Any) -> dict[str, float]:
    """What a judge says of a model."""

    def program(federation: Federation) -> Any:
        judge = yield from Judge.of(federation)
        return (yield from judge.figures(row))

    return tried(case, program)


@pytest.fixture
def party(opened: Trained) -> Callable[[int], Party]:
    """A client of the run, as the worker has it in which it lives."""
    job, plan = opened.job, opened.case(Request()).plan
    block = job.block(np.arange(job.nodes))
    load_block(block, opened.checkpoint, read_manifest(opened.checkpoint))
    network = Classifier(job.module)
    return lambda client: Party(block, client, plan, network, 1)


@pytest.fixture(scope="session")
def images_of() -> Callable[[Path], dict[int, Tensor]]:
    """The clients' rows of synthetic images as they are in a run's folder."""

    def read(run: Path) -> dict[int, Tensor]:
        checkpoint = present_checkpoint(run)
        assert checkpoint is not None
        job = open_trained(run).job
        block = job.block(np.arange(job.nodes))
        load_block(block, checkpoint, read_manifest(checkpoint))
        ids, rows = block.shelves[SHELF].all()
        return dict(zip(ids.tolist(), rows, strict=True))

    return read


MARKED: dict[str, Any] = {
    "plugins": ["marked_data.py"],
    "nodes": 4,
    "rounds": 4,
    "data": {"name": "marked", "normalize": "none"},
    "model": {"name": "mlp", "hidden": [8]},
    # The images do not move, so that they stay what they begin as: copies of examples.
    "algorithm": {"name": "quickdrop", "keep_updates": 2, "condensation": {"lr": 1e-30}},
    "train": {"local_steps": 4, "batch_size": 8, "drop_last": False, "optimizer": {"lr": 0.3}},
    "evaluate": {"every": 4},
    "checkpoint": {"every": 2, "keep": 2},
    "runtime": {"name": "processes", "workers": 2},
}


@dataclass(frozen=True)
class Marked:
    """Runs on marked examples, in processes of their own (see ``marked_data.py``).

    Attributes:
        path: where the run file is, and what is made.
        run: a run that was trained in two workers.
        tap: what was sent meanwhile.
        said: and what was printed.
    """

    path: Path
    run: Path
    tap: Path
    said: str = ""

    def hansa(
        self, *words: object, tap: Path | None = None, kill: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """The command line, in a process of its own."""
        more = {"KILL": kill}
        if tap is not None:
            tap.mkdir()
            more["TAP"] = str(tap)
        command = [sys.executable, "-m", "hansa.cli", *map(str, words)]
        return subprocess.run(
            command, cwd=self.path, env={**os.environ, **more}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    def forget(
        self, run: Path, runtime: str = "processes", **how: Any
    ) -> subprocess.CompletedProcess[str]:
        """A small request, which may be learned anew."""
        sets = ["--allow-relearn", "--set", "recovery.rounds=2", "--set", "recovery.steps=2"]
        sets += ["--set", "runtime=simulate"] * (runtime == "simulate")
        return self.hansa("forget", run, "--class", 3, *sets, "--json", **how)

    def copy(self, to: Path) -> Path:
        """The run in a folder of one's own."""
        shutil.copytree(self.run, to)
        return to


@pytest.fixture(scope="session")
def marked(_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Marked:
    """A run on marked examples."""
    path = tmp_path_factory.mktemp("marked")
    shutil.copy(Path(__file__).with_name("marked_data.py"), path)
    (path / "run.yaml").write_text(yaml.safe_dump(MARKED))
    made = Marked(path, path / "run", path / "tap")
    done = made.hansa("learn", "run.yaml", "--out", made.run, tap=made.tap)
    assert done.returncode == 0, done.stderr
    return replace(made, said=done.stdout + done.stderr)


@pytest.fixture(scope="session")
def unbroken(marked: Marked, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """(the marked run once a request was served in peace, the receipt)."""
    run = marked.copy(tmp_path_factory.mktemp("unbroken") / "run")
    done = marked.forget(run, tap=run.parent / "tap")
    assert done.returncode == 0, done.stderr
    return run, json.loads(done.stdout)
