"""Who is there: by round, by time and by charge, and that all who ask get the same answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.engine import Job, Network, Presence
from hansa.experiment import run
from hansa.topology import Churn, Complete, Regular, Ring
from hansa.topology.timetable import away_in, check_timetable

Make = Callable[..., Job]


@st.composite
def timetables(draw: st.DrawFn, nodes: int = 6) -> dict[int, tuple[tuple[int, int | None], ...]]:
    """Rounds in which some of the nodes are away."""
    away: dict[int, tuple[tuple[int, int | None], ...]] = {}
    for node in draw(st.sets(st.integers(0, nodes - 1))):
        ends = sorted(draw(st.sets(st.integers(0, 20), min_size=2, max_size=6)))
        pairs: list[tuple[int, int | None]] = list(zip(ends[::2], ends[1::2], strict=False))
        if draw(st.booleans()):
            pairs.append((25, None))
        away[node] = tuple(pairs)
    return away


# -- by round


@given(timetables(), st.integers(0, 30))
def test_a_timetable_is_what_it_says(away: Any, round: int) -> None:
    check_timetable(away, 6)
    gone = away_in(away, 6, round)
    for node in range(6):
        rounds = {
            t for start, end in away.get(node, ()) for t in range(start, 99 if end is None else end)
        }
        assert gone[node] == (round in rounds)


@given(timetables(), st.integers(0, 30), st.integers(0, 9))
@settings(max_examples=40)
def test_a_networks_timetable_is_churns(away: Any, round: int, seed: int) -> None:
    """The graph, its weights and who is present are those of the topology ``churn``."""
    inner = Regular(degree=3)
    network = Network(inner, 6, Streams(seed), away=away)
    churn = Network(Churn(topology=inner, absent=away or {0: ((99, 100),)}), 6, Streams(seed))
    assert np.array_equal(Presence(network).at(round), Presence(churn).at(round))
    one, other = network.graph(round), churn.graph(round)
    assert np.array_equal(one.indptr, other.indptr)
    assert np.array_equal(one.indices, other.indices)
    here = network.present(round)
    assert here[one.receivers].all()
    assert here[one.indices].all()
    assert network.absences == network.changing == bool(away)


def test_both_ways_to_be_away_add_up() -> None:
    topology = Churn(topology=Complete(), absent={0: ((0, 2),)}, leave=0.3)
    alone, both = (
        Network(topology, 8, Streams(1), away=away) for away in (None, {3: ((1, 4),), 5: ((2, 3),)})
    )
    for t in range(6):
        expected = Presence(alone).at(t)
        expected[[i for i, gone in ((3, 1 <= t < 4), (5, t == 2)) if gone]] = False
        assert np.array_equal(Presence(both).at(t), expected)


@pytest.mark.parametrize(
    ("away", "words"),
    [
        ({6: ((0, 1),)}, "lost.6"),
        ({1: ((3, 2),)}, "ascending"),
        ({1: ((0, 4), (2, 6))}, "overlap"),
        ({1: ((0, None), (5, 6))}, "for good"),
    ],
)
def test_a_timetable_that_makes_no_sense_is_refused(away: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_timetable(away, 6, "lost")


@pytest.mark.parametrize("name", ["dpsgd", "jwins", "skiptrain"])
def test_a_run_with_a_timetable_is_the_run_with_churn(
    make_job: Make, host: Callable[..., Any], name: str
) -> None:
    absent = {1: [[1, 3]], 6: [[0, 2], [4, None]]}
    inner = {"name": "regular", "degree": 3}
    churned = make_job(
        {"algorithm": name, "topology": {"name": "churn", "topology": inner, "absent": absent}}
    )
    lost = make_job({"algorithm": name, "topology": inner})
    away = {node: tuple((a, b) for a, b in pairs) for node, pairs in absent.items()}
    network = lost.network
    lost.network = Network(network.topology, network.nodes, network.streams, away=away)
    one, other = host(churned)[0], host(lost)[0]
    assert torch.equal(one.rows, other.rows)
    for key, value in one.state.items():
        assert torch.equal(value, other.state[key]), key


def test_clients_that_are_away_by_round_are_not_invited(
    make_job: Make, host: Callable[..., Any]
) -> None:
    job = make_job({"algorithm": "fedavg"})
    old = job.network
    job.network = Network(
        old.topology, old.nodes, old.streams, old.servers, {2: ((1, 3),), 5: ((0, None),)}
    )
    block, reports = host(job)
    for report in reports:
        t = report["round"] - 1
        invited = ~np.isnan(report["log"]["client_outcome"][:8])
        assert np.array_equal(invited, job.presence.at(t)[:8])
    heard = block.state["messages_received"][:8].numpy()
    assert (heard * 5 == heard[0] * np.array([5, 5, 3, 5, 5, 0, 5, 5])).all()
    assert block.state["training_rounds"][:8].tolist() == [5, 5, 3, 5, 5, 0, 5, 5]


def test_a_client_that_is_away_does_not_start_in_fedbuff(
    make_job: Make, host: Callable[..., Any]
) -> None:
    clock = {"name": "modelled", "spread": 0.5}
    job = make_job(
        {"algorithm": {"name": "fedbuff", "concurrency": 4, "buffer": 3}, "clock": clock}
    )
    old = job.network
    job.network = Network(
        old.topology, old.nodes, old.streams, old.servers, {2: ((1, 3),), 5: ((0, None),)}
    )
    block, reports = host(job)
    for report in reports:
        started = ~np.isnan(report["log"]["client_outcome"][:8])
        assert not (started & ~job.presence.at(report["round"] - 1)[:8]).any()
    assert block.state["messages_received"][5] == 0
    assert block.state["messages_received"][:8].sum() > 8


# -- in one block and in several


@pytest.mark.parametrize(
    "algorithm",
    [{"name": "dpsgd"}, {"name": "skiptrain", "train_rounds": 2, "sync_rounds": 1}],
    ids=lambda a: a["name"],
)
@pytest.mark.parametrize(
    "changes",
    [
        {"topology": {"name": "churn", "leave": 0.3, "absent": {"2": [[1, 3]]}}},
        {
            "topology": {"name": "regular", "degree": 3},
            "faults": {"absent": {"0": [[0, 2]], "7": [[1, None]]}},
        },
    ],
    ids=["churn", "faults"],
)
def test_peers_that_come_and_go_reach_the_same_bits_in_blocks_apart(
    make_job: Make,
    host: Callable[..., Any],
    host_apart: Callable[..., Any],
    algorithm: dict[str, Any],
    changes: dict[str, Any],
) -> None:
    clock = {"name": "modelled", "spread": 0.5, "bandwidth": 1e5}
    changes = {**changes, "algorithm": algorithm, "clock": clock}
    _same_apart(make_job, host, host_apart, changes)


def test_clients_that_come_and_go_reach_the_same_bits_in_blocks_apart(
    make_job: Make, host: Callable[..., Any], host_apart: Callable[..., Any]
) -> None:
    clock = {"name": "devices", "availability": {"name": "periods", "there": 20.0, "away": 30.0}}
    changes = {
        "algorithm": {"name": "fedavg", "sampled": 4},
        "clock": clock,
        "faults": {"absent": {"3": [[1, 4]]}},
    }
    reports = _same_apart(make_job, host, host_apart, changes)
    invited = [~np.isnan(r["log"]["client_outcome"][:8]) for r in reports]
    assert not any(who[3] for who in invited[1:4])
    assert 0 < sum(who.sum() for who in invited) <= 20


def _same_apart(
    make_job: Make, host: Callable[..., Any], host_apart: Callable[..., Any], changes: Any
) -> Any:
    """The reports of one block, whose models and state those of two and three blocks have."""
    whole, reports = host(make_job(changes))
    assert len({tuple(make_job(changes).presence.at(t)) for t in range(5)}) > 1
    for workers in (2, 3):
        rows, state, posts = host_apart(lambda: make_job(changes), workers)
        assert torch.equal(rows, whole.rows)
        assert set(state) == set(whole.state)
        for key, value in whole.state.items():
            assert torch.equal(state[key], value), key
        assert [post.dropped for post in posts] == [{}] * workers
    return reports


def test_a_run_records_how_many_were_present(small: Any, tmp_path: Path) -> None:
    changes = {"algorithm": "fedavg", "faults": {"absent": {"3": [[1, 4]], "4": [[3, None]]}}}
    done = run(small(changes), out=tmp_path / "run", report=False)
    table = done.metrics().filter(polars.col("name") == "present").sort("round")
    assert table["value"].to_list() == [8, 7, 7, 6, 7]


def test_churn_says_the_way_out_to_methods_with_servers(make_job: Make) -> None:
    topology = {"name": "churn", "leave": 0.3}
    with pytest.raises(ConfigError, match=r"faults\.absent"):
        make_job({"algorithm": "fedavg", "topology": topology})
    with pytest.raises(ConfigError, match="without absences"):
        make_job({"algorithm": "isolated", "topology": topology})
    with pytest.raises(ConfigError, match=r"absent\.8"):  # the server
        make_job({"algorithm": "fedavg", "faults": {"absent": {"8": [[0, 1]]}}})


# -- by time and by charge


def test_without_a_clock_everybody_is_there(make_job: Make) -> None:
    job = make_job({"clock": "wall"})
    block, ids = job.block(np.arange(8)), np.arange(8)
    for presence in (Presence(job.network), job.presence):
        assert not presence.timed
        assert not presence.absences
        assert presence.charged(block) is None
        assert presence.available(block, ids, 5.0).all()
        assert np.isinf(presence.stays(block, ids, 5.0)).all()
        assert presence.next_return(block, ids, 5.0) == np.inf


@given(st.floats(0, 500), st.integers(0, 5))
@settings(max_examples=25)
def test_by_time_presence_is_the_devices(make_job: Make, time: float, seed: int) -> None:
    clock = {"name": "devices", "availability": {"name": "periods", "there": 20.0, "away": 30.0}}
    job = make_job({"algorithm": "fedavg", "clock": clock, "seed": seed})
    block, ids, presence = job.block(np.arange(9)), np.arange(9), job.presence
    there = presence.available(block, ids, time)
    stays = presence.stays(block, ids, time)
    assert there[8]  # the server
    assert np.array_equal(stays > 0, there)
    leaves = job.clock.leaves(block, ids, time)
    assert np.array_equal(stays[there], (leaves - time)[there])
    back = presence.next_return(block, ids[:8], time)
    assert back > time
    assert presence.available(block, ids[:8], back).any()
    gone = ids[:8][~there[:8]]
    if len(gone):
        before = (time + presence.next_return(block, gone, time)) / 2
        assert not presence.available(block, gone, before).any()


def test_who_may_train_is_present_and_charged(make_job: Make) -> None:
    job = make_job({"topology": {"name": "churn", "topology": "ring", "absent": {2: [[0, 3]]}}})
    block = job.block(np.arange(8))
    assert block.able(0).tolist() == [i != 2 for i in range(8)]
    block.awake = np.arange(8) % 2 == 0
    assert block.able(0).tolist() == [i % 2 == 0 and i != 2 for i in range(8)]
    assert block.able(3).tolist() == [i % 2 == 0 for i in range(8)]
    block.train(0)
    assert (block.state["steps"] > 0).tolist() == [i in (0, 4, 6) for i in range(8)]
    assert Network(Ring(), 8, Streams(0)).present(4).all()
