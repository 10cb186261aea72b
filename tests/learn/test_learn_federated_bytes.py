"""What clients and servers send, keep and cost."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hansa.engine import Job
from hansa.engine.exchange.wire import HEADER_BYTES

CLOCK = {"name": "modelled", "spread": 0.7, "bandwidth": 1e5, "latency": 0.03}
MODEL = 910  # numbers
ROW = MODEL * 4
INVITATION = HEADER_BYTES + 1 + 3 * (1 + 1)
"""A table of one row: how many rows, and a byte of type and one of number for each of three columns
(steps, turn and the turn to wait for), all of them small."""

# -- what is sent ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "down", "up"),
    [
        ({"name": "fedavg"}, ROW, ROW),
        ({"name": "fednova"}, ROW, ROW + 4),
        ({"name": "scaffold"}, 2 * ROW, 2 * ROW),
        ({"name": "fedavg", "global_momentum": 0.5}, 2 * ROW, ROW),
        ({"name": "fedavg", "download": {"name": "dense", "dtype": "bfloat16"}}, ROW // 2, ROW),
    ],
    ids=str,
)
def test_bytes_by_hand(
    make_job: Callable[..., Job], host: Callable[..., Any], settings: Any, down: int, up: int
) -> None:
    """Numbers of 4 bytes, a header of 64 each message, and an invitation with each model."""
    assert HEADER_BYTES == 64
    job = make_job({"algorithm": {**settings, "sampled": 5}, "clock": CLOCK})
    state = host(job)[0].state
    took_part = int(state["training_rounds"].sum())
    assert took_part == 25
    assert int(state["bytes_sent"][8]) == 25 * (down + 64 + INVITATION)
    assert int(state["bytes_sent"][:8].sum()) == 25 * (up + 64)
    assert int(state["bytes_received"][8]) == 25 * (up + 64)
    assert int(state["bytes_received"][:8].sum()) == 25 * (down + 64 + INVITATION)
    assert int(state["messages_sent"][8]) == 2 * 25


HALVES = [{"name": "dense", "dtype": dtype} for dtype in ("float16", "bfloat16")]


@pytest.mark.parametrize("codec", ["uniform", "qsgd", *HALVES], ids=str)
@pytest.mark.parametrize("method", ["fednova", "scaffold"])
def test_lossy_codecs_leave_alone_what_goes_aside(
    make_job: Callable[..., Job], host: Callable[..., Any], method: str, codec: Any
) -> None:
    """Controls and numbers of steps travel exactly, in a message of their own."""
    heard: list[Any] = []
    job = make_job({"algorithm": {"name": method, "codec": codec}, "rounds": 1})
    algorithm: Any = job.algorithm
    kind = type(algorithm)

    class Listening(kind):  # type: ignore[misc, valid-type]
        """Keeps what came aside."""

        def gather(self, block, row, mail, *rest):  # type: ignore[no-untyped-def]
            heard.append(mail.messages(8)[1:])
            return super().gather(block, row, mail, *rest)

        def land(self, block, flight):  # type: ignore[no-untyped-def]
            updates, aside = super().land(block, flight)
            heard.append((updates.clone(), torch.cat(aside, dim=1).clone()))
            return updates, aside

    job.algorithm = Listening.model_construct(**algorithm.__dict__)
    state = host(job)[0].state
    (updates, aside), (got, rest) = heard
    assert torch.equal(rest, aside)
    assert not torch.equal(got, updates)
    assert (got - updates).abs().max() < 0.05
    # Two messages up; an invitation and a model down.
    assert state["messages_sent"].tolist() == [2] * 8 + [2 * 8]
    extra = 4 * (MODEL if method == "scaffold" else 1) + 64
    sent = state["bytes_sent"][:8] - extra - 64
    assert (sent < 0.6 * ROW).all()


# -- statistics of normalization layers ------------------------------------------------------------

NORMED = """
from torch import nn

def normed():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.Linear(6, 10))
"""
PARAMETERS, STATISTICS = 64 * 6 + 6 + 12 + 70, 12


@pytest.fixture
def normed(tmp_path: Any, make_job: Callable[..., Job]) -> Callable[..., Job]:
    """A job of a network with a BatchNorm layer."""
    file = tmp_path / "normed.py"
    file.write_text(NORMED)

    def make(changes: dict[str, Any]) -> Job:
        return make_job({"model": {"name": "module", "path": f"{file}:normed"}, **changes})

    return make


def test_statistics_are_averaged(normed: Callable[..., Job], host: Callable[..., Any]) -> None:
    """By the clients' weights, whatever the server makes of the parameters."""
    quantity = {"name": "digits", "partition": {"name": "quantity", "min_samples": 20}}
    found = {}
    for method in ("fedavg", "fedadam"):
        job = normed({"algorithm": method, "rounds": 1, "data": quantity})
        found[method] = host(job)[0].rows[0, PARAMETERS:]
    expected = torch.zeros(STATISTICS, dtype=torch.float64)
    total = sum(len(part) for part in job.parts)
    block = job.bench(8)
    block.train(0)
    for i in range(8):
        expected += len(job.parts[i]) / total * block.rows[i, PARAMETERS:].double()
    for rows in found.values():
        torch.testing.assert_close(rows.double(), expected, rtol=0, atol=1e-5)


def test_local_statistics_stay_at_home(
    normed: Callable[..., Job], host: Callable[..., Any]
) -> None:
    averaged = host(normed({"algorithm": "fedavg"}))[0]
    job = normed({"algorithm": {"name": "fedavg", "buffers": "local"}})
    block, reports = host(job)
    saved = averaged.state["bytes_sent"] - block.state["bytes_sent"]
    numbers = STATISTICS + 1  # and how many batches they are of
    assert saved.tolist() == [5 * 4 * numbers] * 8 + [5 * 8 * 4 * numbers]
    # Measured are the clients' models: they ask for the server's, which is counted apart.
    measuring = [report["values"]["measuring_bytes"].tolist() for report in reports[-1:]]
    assert measuring == [[HEADER_BYTES] * 8 + [8 * (4 * PARAMETERS + HEADER_BYTES)]]
    initial = job.block(np.arange(9)).rows[0, PARAMETERS:]
    assert torch.equal(block.rows[0, PARAMETERS:], initial)
    ids, own = block.shelves["client.buffers"].all()
    assert ids.tolist() == list(range(8))
    assert own.shape == (8, STATISTICS)
    assert len({tuple(row.tolist()) for row in own}) == 8
    assert (own - initial).abs().max(1).values.min() > 0.01


def test_local_statistics_are_those_of_a_loop(
    normed: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """A client's own go on from round to round, under the server's parameters."""
    job = normed({"algorithm": {"name": "fedavg", "buffers": "local"}, "rounds": 3})
    block = host(job)[0]
    rows = job.bench(8).rows
    for t in range(3):
        crew = job.bench(8)
        crew.rows.copy_(rows)
        crew.train(t)
        mean = sum(
            len(part) * row[:PARAMETERS].double()
            for part, row in zip(job.parts, crew.rows, strict=True)
        )
        rows = crew.rows.clone()
        rows[:, :PARAMETERS] = mean / sum(len(part) for part in job.parts)  # type: ignore
    torch.testing.assert_close(block.rows[0, :PARAMETERS], rows[0, :PARAMETERS], rtol=0, atol=1e-5)
    own = block.shelves["client.buffers"].all()[1]
    torch.testing.assert_close(own, rows[:, PARAMETERS:], rtol=0, atol=1e-4)


# -- memory ----------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_population(make_job: Callable[..., Job]) -> None:
    """One row for the server; shelves for those who took part only."""
    changes = {
        "nodes": 1000,
        "rounds": 2,
        "data": {"name": "digits", "partition": {"name": "iid"}},
        "train.batch_size": 1,
        "algorithm": {"name": "scaffold", "sampled": 3},
    }
    job = make_job(changes)
    from hansa.engine.runtimes.host import Host

    block = job.block(np.arange(job.nodes))
    assert len(block.rows) == 1
    peak = 0
    seen: list[int] = []

    def report(values: dict[str, Any]) -> None:
        seen.append(len(block.shelves["client.control"]))

    tracemalloc.start()
    try:
        Host(job, block, job.exchange(), report, lambda b, done: None).run()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(block.rows) == 1
    assert len(seen) == 2
    assert 3 <= seen[-1] <= 6
    assert all(value.shape[0] == 1 for value in block.kept.values())
    assert peak < 4e6
