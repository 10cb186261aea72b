"""The modelled clock on an example small enough for paper."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hansa.engine import Job, ModelledClock, Send, WallClock
from hansa.engine.exchange.asked import Exchange
from hansa.engine.exchange.wire import HEADER_BYTES
from hansa.topology import Graph

LINE = Graph.from_edges(3, [0, 1], [1, 2], symmetric=True)


def test_a_line_of_three_by_hand(make_job: Callable[..., Job]) -> None:
    clock = ModelledClock(
        sample_seconds=0.5,
        bandwidth=100.0,
        latency=0.25,
        compute_watts=2.0,
        radio_joules_per_byte=0.001,
    )
    block = make_job({"nodes": 3, "topology": "ring"}).block(np.arange(3))
    part = block.rows[:, :9].clone()
    size = 9 * 4 + HEADER_BYTES
    assert size == 100
    # Node 0 works for 2 s, node 1 for 4 s, node 2 rests.
    clock.compute(block, np.array([4, 8, 0]))
    assert block.state["modelled_time"].tolist() == [2, 4, 0]
    assert block.state["energy"].tolist() == [4, 8, 0]
    Exchange(clock)(block, Send(part, LINE), 0, 0)
    # The ends send 100 bytes (1 s), the middle 200 (2 s), all arrive 0.25 s later: at 3.25, 6.25
    # and 1.25. The ends hear the middle; the middle hears both and is later than either.
    assert block.state["modelled_time"].tolist() == [6.25, 4, 6.25]
    # A byte costs who sends it and who hears it: 100 + 100, 200 + 200, 100 + 100 bytes.
    assert block.state["energy"].tolist() == pytest.approx([4.2, 8.4, 0.2])
    # A second round: all start where they are, nothing is waited for by a node without news.
    Exchange(clock)(block, Send(part, Graph.from_edges(3, [0], [1])), 1, 0)
    assert block.state["modelled_time"].tolist() == [6.25, 7.5, 6.25]


def test_paces_are_each_nodes_own(make_job: Callable[..., Job]) -> None:
    """Log-normal around the median, the same in any split of the nodes."""
    clock, job = ModelledClock(sample_seconds=1, spread=0.7), make_job({"nodes": 8})
    whole, part = job.block(np.arange(8)), job.block(np.array([3, 5]))
    clock.compute(whole, np.ones(8))
    clock.compute(part, np.ones(2))
    times = whole.state["modelled_time"].numpy()
    assert part.state["modelled_time"].tolist() == times[[3, 5]].tolist()
    assert len(set(times.tolist())) == 8
    expected = [np.exp(0.7 * job.streams.numpy("device", i).standard_normal()) for i in range(8)]
    np.testing.assert_allclose(times, expected, rtol=1e-12)


def test_a_run_of_equal_nodes_takes_the_sum_of_its_rounds(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    clock = {"name": "modelled", "sample_seconds": 0.01, "bandwidth": 1e4, "latency": 0.1}
    block, reports = host(make_job({"clock": clock, "rounds": 3}))
    size = block.trainer.layout.nbytes + HEADER_BYTES
    each = 2 * 8 * 0.01 + 3 * size / 1e4 + 0.1
    for report in reports:
        expected = [each * report["round"]] * 8
        np.testing.assert_allclose(report["counters"]["modelled_time"], expected, rtol=1e-12)
    np.testing.assert_allclose(reports[-1]["counters"]["energy"], 3 * 0.16 * 5.0, rtol=1e-12)


def test_the_wall_clock_models_nothing(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    assert not WallClock().modelled
    block, reports = host(make_job({"rounds": 1, "clock": "wall"}))
    assert "modelled_time" not in reports[0]["counters"]
    assert "energy" not in reports[0]["counters"]
    assert block.state["modelled_time"].tolist() == [0] * 8
    assert block.state["energy"].tolist() == [0] * 8
