"""Clients of a round stream over threads and workers, and none of these changes a bit."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.threads import lanes, one_thread
from hansa.engine import Job
from hansa.engine.exchange.post import SitePost
from hansa.engine.exchange.wire import Header, Key, When
from hansa.engine.runtimes.runtime import owners, split_nodes
from hansa.learn.federated import waves

NETWORKS = """
import torch
import torch.nn.functional as F
from torch import nn

def layers():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(108, 10)
    )

class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 9), nn.Linear(9, 10)

    def forward(self, x):
        x = F.dropout(self.first(x.flatten(1)), 0.4, self.training)
        return self.second(torch.relu(x))
"""
ALGORITHMS: dict[str, Any] = {
    "fedavg": "fedavg",
    "fednova": "fednova",
    "scaffold": "scaffold",
    "sampled": {"name": "fedavg", "sampled": 5},
    "lossy": {"name": "fedavg", "codec": {"name": "dense", "dtype": "float16"}},
    "cohorts": {"name": "cpfl", "cohorts": 2, "merge": "average"},
}


@pytest.fixture
def streaming(
    tmp_path: Path, make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Job]:
    """A job of a network that draws, with so little memory that its clients come one by one."""
    (tmp_path / "networks.py").write_text(NETWORKS)
    monkeypatch.setattr(waves, "_WAVE_BYTES", 1)

    def make(
        network: str = "layers", algorithm: Any = "fedavg", threads: int = 1, nodes: int = 8
    ) -> Job:
        model = {"name": "module", "path": f"{tmp_path}/networks.py:{network}"}
        changes = {"model": model, "algorithm": algorithm, "rounds": 2, "nodes": nodes}
        changes["evaluate.local_validation"] = 0.1
        job = make_job({**changes, "train.optimizer": {"name": "sgd", "lr": 0.1}})
        job.threads = threads
        return job

    return make


@pytest.mark.parametrize("network", ["layers", "Functional"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_threads_and_workers_change_no_bit(
    streaming: Callable[..., Job],
    host: Callable[..., Any],
    host_apart: Callable[..., Any],
    network: str,
    algorithm: str,
) -> None:
    """One thread, several, and several workers come to the same model."""
    chosen = ALGORITHMS[algorithm]
    block, reports = host(streaming(network, chosen))
    for threads in (2, 3):
        other, others = host(streaming(network, chosen, threads))
        assert torch.equal(other.rows, block.rows)
        for ours, theirs in zip(others, reports, strict=True):
            for name, value in theirs["values"].items():
                assert np.array_equal(value, ours["values"][name], equal_nan=True), name
    for workers in (2, 3):
        rows, state, _ = host_apart(lambda: streaming(network, chosen, 2), workers)
        assert torch.equal(rows, block.rows)
        assert torch.equal(state["samples"], block.state["samples"])
        assert torch.equal(state["bytes_sent"], block.state["bytes_sent"])


def test_the_next_client_begins_when_one_ends(
    streaming: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """Nobody waits for the others of a wave: the first ends only once the third has begun."""
    job = streaming(threads=2)
    third = threading.Event()

    class Waiting(type(job.algorithm)):  # type: ignore[misc]
        """The first client of a round is slow."""

        def local_work(self, work):  # type: ignore[no-untyped-def]
            if 2 in work.crew.ids:
                third.set()
            if 0 in work.crew.ids:
                assert third.wait(120)
            super().local_work(work)

    job.algorithm = Waiting.model_construct(**job.algorithm.__dict__)
    host(job)
    assert third.is_set()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("workers", [1, 3])
def test_few_models_are_in_memory(
    streaming: Callable[..., Job],
    host: Callable[..., Any],
    host_apart: Callable[..., Any],
    threads: int,
    workers: int,
) -> None:
    """Rows of clients that have begun and are not yet summed, counted in each worker."""
    most: dict[int, int] = {}

    def make() -> Job:
        job = streaming(threads=threads)
        alive: list[int] = []

        class Counting(type(job.algorithm)):  # type: ignore[misc]
            """Counts the rows of its worker."""

            def launch(self, block, heard):  # type: ignore[no-untyped-def]
                alive.append(len(heard.who))
                most[id(alive)] = max(most.get(id(alive), 0), sum(alive))
                return super().launch(block, heard)

            def land(self, block, flight):  # type: ignore[no-untyped-def]
                alive.pop(0)
                return super().land(block, flight)

        job.algorithm = Counting.model_construct(**job.algorithm.__dict__)
        kept.append(alive)
        return job

    kept: list[list[int]] = []
    if workers == 1:
        host(make())
    else:
        host_apart(make, workers)
    assert len(most) == workers
    assert max(most.values()) <= 2 * threads + 1
    assert all(not alive for alive in kept)


@pytest.mark.parametrize("algorithm", ["fedavg", "cohorts"])
def test_no_worker_runs_ahead_of_the_servers(
    streaming: Callable[..., Job], host_apart: Callable[..., Any], algorithm: str
) -> None:
    """What waits to be added up is bounded: an update leaves only once an earlier wave is in."""
    clients, workers = 24, 3
    ahead = 2 * workers  # of one thread each: two clients are at work for each of them
    lock = threading.Lock()
    taken: dict[tuple[int, int], int] = {}
    leads: list[int] = []

    def watch(posts: list[SitePost]) -> None:
        for post in posts:

            def send(header: Header, payload: Any, *more: Header, post: SitePost = post) -> None:
                if header.kind == "update":
                    with lock:
                        last = taken.get((header.round, post.owner[header.receiver]), -1)
                        leads.append(header.phase - last)
                SitePost.send(post, header, payload, *more)

            def gather(
                when: When, keys: set[Key], whole: bool = True, post: SitePost = post
            ) -> Any:
                came = SitePost.gather(post, when, keys, whole)
                if when.kind == "update" and post.index in post.owner[clients:]:
                    with lock:
                        taken[when.round, post.index] = when.number
                return came

            post.send = send  # type: ignore[method-assign]
            post.gather = gather  # type: ignore[method-assign]

    host_apart(lambda: streaming("layers", ALGORITHMS[algorithm], nodes=clients), workers, watch)
    assert {round for round, _ in taken} == {0, 1}
    assert max(taken.values()) > ahead
    assert max(leads) <= ahead


@given(st.integers(1, 60), st.integers(1, 8))
def test_clients_are_dealt_to_workers(clients: int, workers: int) -> None:
    """As many clients as there are workers, one after the other, keep all of them busy."""
    parts = split_nodes(clients + 1, workers, 1)
    owner = owners(parts)
    assert sorted(np.concatenate(parts).tolist()) == list(range(clients + 1))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for first in range(clients + 2 - workers):
        assert len(set(owner[first : first + workers])) == workers


def test_operations_take_one_thread_and_work_as_many_as_before() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert lanes() == 3
        with one_thread(small=False):
            assert torch.get_num_threads() == 1
            assert lanes() == 3
            with one_thread():
                assert lanes() == 1
            assert lanes() == 3
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_the_environment_changes_no_bit(small: Callable[..., Any], tmp_path: Path) -> None:
    """``hansa learn`` with one thread, with two, and in processes: every figure the same."""
    (tmp_path / "networks.py").write_text(NETWORKS)
    model = {"name": "module", "path": f"{tmp_path}/networks.py:layers"}
    settings = small({"model": model, "algorithm": "fedavg", "rounds": 2})
    settings.pop("topology")
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(settings))
    found = []
    for k, (threads, runtime) in enumerate([(1, "simulate"), (2, "simulate"), (2, "processes")]):
        command = [sys.executable, "-m", "hansa.cli", "learn", str(file), "--json", "--no-report"]
        command += ["--out", str(tmp_path / str(k)), "--set", f"runtime={runtime}"]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout)["final"])
    assert found[1] == found[0]
    assert found[2] == found[0]
