"""A small run that was trained with distillation, as a folder and as its clients and server."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hansa.experiment import run
from hansa.forget import Federation, Request
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
def federation(opened: Trained) -> Callable[..., Federation]:
    """Its clients and server with a request: federation(classes=[3])."""

    def make(**items: Any) -> Federation:
        return opened.federation(Request.of(**items))

    return make
