"""Small runs on digits, one core, and a cache folder shared by the tests of a session."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from hypothesis import settings
from safetensors.torch import load_file

from hansa.engine import Job
from hansa.engine.exchange import LocalExchange
from hansa.engine.host import Host
from hansa.experiment import RunFile, prepare

settings.register_profile("shared", deadline=None)
settings.load_profile("shared")

BASE: dict[str, Any] = {
    "seed": 3,
    "nodes": 8,
    "rounds": 5,
    "data": {"name": "digits"},
    "model": {"name": "mlp", "hidden": [12]},
    "topology": {"name": "regular", "degree": 3},
    "train": {
        "local_steps": 2,
        "batch_size": 8,
        "strategy": "looped",
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.5},
    },
    "evaluate": {"every": 2},
    "checkpoint": {"every": 0},
}


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HANSA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="module")
def _one_core() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small() -> Callable[..., dict[str, Any]]:
    """Settings of a small run, with dotted names set anew: small({"train.batch_size": 4})."""

    def make(changes: dict[str, Any] | None = None) -> dict[str, Any]:
        chosen = {k: dict(v) if isinstance(v, dict) else v for k, v in BASE.items()}
        for name, value in (changes or {}).items():
            *path, last = name.split(".")
            target = chosen
            for part in path:
                target[part] = dict(target[part])
                target = target[part]
            target[last] = value
        return chosen

    return make


@pytest.fixture(scope="session")
def make_job(small: Callable[..., dict[str, Any]]) -> Callable[..., Job]:
    """The job of a small run, ready to be hosted."""

    def make(changes: dict[str, Any] | None = None) -> Job:
        job = prepare(RunFile.parse(small(changes)))
        job.strategy = job.train.strategy if job.train.strategy != "auto" else "looped"
        job.threads = 1
        return job

    return make


@pytest.fixture(scope="session")
def host() -> Callable[..., Any]:
    """Takes a job through its rounds in memory: (block, reports)."""

    def go(job: Job) -> Any:
        block = job.block(np.arange(job.nodes))
        reports: list[dict[str, Any]] = []

        def report(values: dict[str, Any]) -> None:
            values["counters"] = {k: v.copy() for k, v in values["counters"].items()}
            reports.append(values)

        Host(job, block, LocalExchange(job.clock), report, lambda block, done: None).run()
        return block, reports

    return go


@pytest.fixture(scope="session")
def saved_rows() -> Callable[..., torch.Tensor]:
    """All models [n, D] of a checkpoint, by node."""

    def read(run: Path, done: int) -> torch.Tensor:
        parts = [load_file(p) for p in (run / f"checkpoints/round-{done:06d}").glob("*.safetensors")]
        ids = torch.cat([part["ids"] for part in parts])
        return torch.cat([part["rows"] for part in parts])[ids.argsort()]

    return read


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """After the test no child process and no listening socket of ours is left."""
    yield
    gc.collect()
    me = psutil.Process()
    assert me.children(recursive=True) == []
    assert [c for c in me.net_connections() if c.status == psutil.CONN_LISTEN] == []
