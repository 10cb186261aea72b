"""Shaped links in modelled time: nobody sleeps, and times are those of a plain event loop."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hansa
from hansa.engine import Job

MakeJob = Callable[..., Job]
CLOCK = {"name": "modelled", "sample_seconds": 0.01, "bandwidth": 1e5, "latency": 0.05}
WILD = {
    "delay": 0.2, "jitter": 0.1, "rate": 2e4, "burst": 1000, "loss": 0.2, "resend": 0.3,
    "corrupt": 0.1, "cut": [[1.0, 2.5]], "nodes": {"2": {"delay": 1.0}},
}  # fmt: skip


def times(run: Any) -> np.ndarray:
    block = run[0]
    return block.state["modelled_time"].numpy()


@pytest.mark.parametrize("cut", [(), ((0.4, 1.9),)])
def test_times_are_those_of_a_plain_event_loop(
    make_job: MakeJob, host: Callable[..., Any], cut: tuple[tuple[float, float], ...]
) -> None:
    """A ring of four: each works, sends over its own link and over the network, and waits."""
    network = {"delay": 0.3, "rate": 5000.0, "burst": 1.0, "cut": cut}
    network["links"] = [{"link": [0, 1], "delay": 2.0, "both_ways": False}]
    rounds = 3
    changes = {"nodes": 4, "rounds": rounds, "topology": "ring", "network": network}
    block, reports = host(make_job({**changes, "clock": {**CLOCK, "spread": 0.5}}))
    size = int(block.state["bytes_sent"][0]) / int(block.state["messages_sent"][0])
    pace, samples = block.clock.pace(block, block.ids), 2 * 8
    now, free = (
        np.zeros(4),
        dict.fromkeys([(i, (i + d) % 4) for i in range(4) for d in (1, 3)], 0.0),
    )
    for _ in range(rounds):
        now = now + pace * samples
        events, doors = [], np.zeros(4)
        for sender in range(4):  # both messages leave when the last byte of both has
            gone = now[sender] + 2 * size / CLOCK["bandwidth"] + CLOCK["latency"]
            for receiver in ((sender + 1) % 4, (sender - 1) % 4):
                heapq.heappush(events, (gone, sender, receiver))
        while events:
            gone, sender, receiver = heapq.heappop(events)
            begin = max(gone, free[sender, receiver])
            delay = 2.0 if (sender, receiver) == (0, 1) else 0.3
            left = begin + (size - (1.0 if free[sender, receiver] < gone else 0.0)) / 5000.0
            for start, end in cut:  # a frame that is under way in a cut goes out when it is over
                if left + delay >= start and begin < end:
                    left = end + (size - 1.0) / 5000.0
            free[sender, receiver] = left
            doors[receiver] = max(doors[receiver], left + delay)
        now = np.maximum(now, doors)
    np.testing.assert_allclose(times((block, reports)), now, rtol=1e-6)


@pytest.mark.parametrize("name", ["dpsgd", "el_oracle", "choco"])
def test_times_do_not_depend_on_where_nodes_live(
    make_job: MakeJob, host: Callable[..., Any], host_apart: Callable[..., Any], name: str
) -> None:
    """Chances, what is under way on links, and messages that a fault takes and that go again."""
    changes = {"algorithm": name, "network": WILD, "clock": {**CLOCK, "spread": 0.5}, "rounds": 4}
    changes["faults"] = {"loss": 0.2, "on_missing": "wait"}
    whole, _ = host(make_job(changes))
    _, state, _ = host_apart(lambda: make_job(changes), 3)
    for key in ("modelled_time", "transfer_time", "bytes_sent", "messages_resent"):
        assert torch.equal(whole.state[key], state[key]), key
    other, _ = host(make_job({**changes, "seed": 4}))
    assert not torch.equal(whole.state["modelled_time"], other.state["modelled_time"])


def test_a_network_changes_times_and_no_models(make_job: MakeJob, host: Callable[..., Any]) -> None:
    changes: dict[str, Any] = {"clock": CLOCK, "rounds": 3}
    with_, without = (host(make_job({**changes, "network": n}))[0] for n in (WILD, None))
    assert torch.equal(with_.rows, without.rows)
    assert torch.equal(with_.state["bytes_sent"], without.state["bytes_sent"])
    later = with_.state["modelled_time"] - without.state["modelled_time"]
    assert float(later.min()) > 3 * 0.1  # at least the shortest delay of each round
    wall = host(make_job({"clock": "wall", "rounds": 3, "network": WILD}))[0]
    assert torch.equal(wall.rows, with_.rows)
    assert not wall.links


def test_a_resumed_run_finds_on_its_links_what_was_under_way(
    tmp_path: Path, small: Callable[..., dict[str, Any]]
) -> None:
    """Links so slow that a round's messages are under way in the next."""
    slow = {"rate": 3000.0, "burst": 500, "jitter": 0.1, "delay": 0.1}
    changes = {"rounds": 4, "network": slow, "clock": {**CLOCK, "spread": 1.0}}
    changes |= {"topology": {"name": "exponential"}, "checkpoint": {"every": 2}}
    changes["algorithm"] = {"name": "dpsgd", "weights": "uniform"}
    settings = small(changes)
    hansa.run(settings, tmp_path / "whole", report=False)
    hansa.run({**settings, "rounds": 2}, tmp_path / "parts", report=False)
    hansa.resume(tmp_path / "parts", {"rounds": 4}, report=False)
    blocks = [hansa.open_run(tmp_path / name).trained().block for name in ("whole", "parts")]
    assert blocks[0].links
    assert blocks[0].links == blocks[1].links
    one, two = (block.state["modelled_time"] for block in blocks)
    assert torch.equal(one, two)


def test_nodes_at_their_own_pace_meet_the_network_too(
    make_job: MakeJob, host: Callable[..., Any]
) -> None:
    changes = {"algorithm": "adpsgd", "clock": {**CLOCK, "spread": 0.5}, "rounds": 3}
    with_, without = (host(make_job({**changes, "network": n}))[0] for n in ({"delay": 1.0}, None))
    spent = [float(block.state["modelled_time"].sum()) for block in (with_, without)]
    assert spent[0] > spent[1] + 1
    again = host(make_job({**changes, "network": {"delay": 1.0}}))[0]
    assert torch.equal(again.rows, with_.rows)
