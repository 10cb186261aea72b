"""Small runs on digits, one core, and a cache folder shared by the tests of a session."""

import contextlib
import copy
import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from hansa.engine import Job
from hansa.engine.exchange.post import SitePost
from hansa.engine.runtimes.host import Host
from hansa.engine.runtimes.runtime import split_nodes
from hansa.experiment import RunFile, prepare

from ..toy import warm
from .apart import in_order, parties_of, play_apart
from .post_sites import Sites

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
    "evaluate": {"every": 2, "dense_start": False},
    "checkpoint": {"every": 0},
}


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

        Host(job, block, job.exchange(), report, lambda block, done: None).run()
        return block, reports

    return go


@pytest.fixture(scope="session")
def host_apart() -> Callable[..., Any]:
    """Takes a job's nodes through its rounds in blocks that exchange messages.

    Each block has a thread of its own, and its party's plan and holding, so this is the
    ``processes`` runtime but for the processes: (rows, state, posts), nodes in order. ``once``: the
    job is prepared once, and every other party has a copy.
    """

    def go(
        make: Callable[[], Job],
        workers: int,
        meddle: Callable[[list[SitePost]], None] = lambda posts: None,
        deadline: float = 300.0,
        once: bool = False,
    ) -> Any:
        job = make()
        more = range(workers - 1)
        jobs = [job, *(copy.deepcopy(job) if once else make() for _ in more)]
        groups = split_nodes(jobs[0].nodes, workers, jobs[0].servers)
        parties = [job.party(ids) for job, ids in zip(jobs, groups, strict=True)]
        blocks, posts = play_apart(parties, groups, meddle, deadline)
        return in_order(blocks).rows, in_order(blocks).state, posts

    return go


@pytest.fixture
def poisoned(tmp_path: Path) -> Callable[..., Any]:
    """Plays a job in blocks that have a plan and a holding from files, and nothing else.

    ``poisoned(job, workers=None)`` gives rows and state, nodes in order; by default every node is
    a party of its own.
    """

    def go(job: Job, workers: int | None = None) -> Any:
        groups = split_nodes(job.nodes, workers or job.nodes, job.servers)
        return in_order(play_apart(parties_of(job, tmp_path, groups), groups)[0])

    return go


@pytest.fixture(scope="session")
def saved_rows() -> Callable[..., torch.Tensor]:
    """All models [n, D] of a checkpoint, by node."""

    def read(run: Path, done: int) -> torch.Tensor:
        parts = [
            load_file(p) for p in (run / f"checkpoints/round-{done:06d}").glob("*.safetensors")
        ]
        ids = torch.cat([part["ids"] for part in parts])
        return torch.cat([part["rows"] for part in parts])[ids.argsort()]

    return read


def children() -> list[psutil.Process]:
    """Processes that this one has begun, but for those that fork, and Python's own watch.

    Those stay until the end, wherever a test of any file has begun some.
    """
    begun = []
    for child in psutil.Process().children(recursive=True):
        if child.pid in warm.servers():
            continue
        with contextlib.suppress(psutil.NoSuchProcess):
            words = " ".join(child.cmdline())
            if not any(
                f"multiprocessing.{one}" in words for one in ("resource_tracker", "forkserver")
            ):
                begun.append(child)
    return begun


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """After the test no child process and no listening socket of ours is left."""
    yield
    gc.collect()
    assert children() == []
    assert [c for c in psutil.Process().net_connections() if c.status == psutil.CONN_LISTEN] == []


@pytest.fixture
def net(tmp_path: Path, make_job: Callable[..., Job]) -> Callable[..., Job]:
    """A job of a network in a file of one's own."""
    file = tmp_path / "trial_nets.py"
    file.write_text((Path(__file__).parent / "own_nets.txt").read_text())

    def make(name: str, changes: dict[str, Any] | None = None) -> Job:
        return make_job({"model": {"name": "module", "path": f"{file}:{name}"}, **(changes or {})})

    return make


@pytest.fixture
def pair() -> Sites:
    """Two sites, the first with nodes 0 and 1, the second with 2 and 3."""
    return Sites()
