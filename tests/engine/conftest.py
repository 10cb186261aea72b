"""Small runs on digits, one core, and a cache folder shared by the tests of a session."""

import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import zmq
from safetensors.torch import load_file

from hansa.engine import Job
from hansa.engine.exchange.asked import Exchange
from hansa.engine.exchange.mesh import Mesh
from hansa.engine.runtimes.host import Host
from hansa.engine.runtimes.runtime import owners, split_nodes
from hansa.experiment import RunFile, prepare

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

        Host(job, block, Exchange(job.clock), report, lambda block, done: None).run()
        return block, reports

    return go


@pytest.fixture(scope="session")
def host_apart() -> Callable[..., Any]:
    """Takes a job's nodes through its rounds in blocks that exchange over real sockets.

    Each block has a thread of its own, so this is the ``processes`` runtime but for the processes:
    (rows, state, meshes), nodes in order.
    """

    def go(
        make: Callable[[], Job],
        workers: int,
        meddle: Callable[[list[Mesh]], None] = lambda meshes: None,
        deadline: float = 300.0,
    ) -> Any:
        jobs = [make() for _ in range(workers)]
        parts = split_nodes(jobs[0].nodes, workers, jobs[0].servers)
        owner = owners(parts)
        failed = threading.Event()

        def alive() -> None:
            if failed.is_set():
                raise ConnectionAbortedError("another block failed")

        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        meshes = [Mesh(context, w, owner, deadline, alive) for w in range(workers)]
        for mesh in meshes:
            mesh.connect([other.port for other in meshes])

        def one(w: int) -> Any:
            try:
                block = jobs[w].block(parts[w])
                block.workers = workers
                exchange = Exchange(jobs[w].clock, meshes[w])
                Host(jobs[w], block, exchange, lambda report: None, lambda b, done: None).run()
            except BaseException:
                failed.set()
                raise
            return block

        try:
            meddle(meshes)
            with ThreadPoolExecutor(workers) as pool:
                futures = [pool.submit(one, w) for w in range(workers)]
            errors = [f.exception() for f in futures if f.exception()]
            if errors:
                own = [e for e in errors if not isinstance(e.__cause__, ConnectionAbortedError)]
                raise (own or errors)[0]
            blocks = [future.result() for future in futures]
        finally:
            for mesh in meshes:
                mesh.close()
            context.term()
        home = torch.from_numpy(np.concatenate([b.ids[b.residents] for b in blocks])).argsort()
        place = torch.from_numpy(np.concatenate([b.ids for b in blocks])).argsort()
        rows = torch.cat([block.rows for block in blocks])[home]
        state = {n: torch.cat([b.state[n] for b in blocks])[place] for n in blocks[0].state}
        return rows, state, meshes

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
    """Processes that this one has begun, but for Python's own watch and server of forks.

    Those stay until the end, wherever a test of any file has begun some by multiprocessing.
    """
    begun = []
    for child in psutil.Process().children(recursive=True):
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
