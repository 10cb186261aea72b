"""Networks that change: peer sampling, matchings, churn, traces; alone and under algorithms."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.topology import (
    Churn,
    Graph,
    Matching,
    OnePeerExponential,
    RandomPeers,
    Regular,
    Topology,
    Trace,
    metropolis_hastings,
    uniform,
)
from hansa.topology.churn import markov_present

CONTACTS = "t i j\n0 0 1\n5 1 2 # near\n10 2 3\n12 0 3\n20 0 1\n"


def refusal(topology: Topology, nodes: int) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        topology.check(nodes)
    assert caught.value.fix
    return caught.value


def written(folder: Path, text: str) -> Path:
    path = folder / "trace.txt"
    path.write_text(text)
    return path


def pairs(graph: Graph) -> set[tuple[int, int]]:
    return {(int(i), int(j)) for i, j in zip(graph.receivers, graph.indices, strict=True) if i < j}


def doubly_stochastic(graph: Graph) -> None:
    dense = metropolis_hastings(graph).dense()
    assert np.abs(dense - dense.T).max() == 0
    assert np.abs(dense.sum(0) - 1).max() < 1e-12
    assert dense.min() >= 0


# -- peer sampling ----------------------------------------------------------------------------


@given(st.integers(2, 40), st.integers(1, 6), st.integers(0, 9), st.booleans(), st.integers(0, 99))
@settings(max_examples=60)
def test_peers_are_each_nodes_own_draw(nodes, peers, t, symmetric, seed):
    assume(peers < nodes)
    topology = RandomPeers(peers=peers, symmetric=symmetric)
    topology.check(nodes)
    graph = topology.graph(nodes, t, Streams(seed))
    assert graph == topology.graph(nodes, t, Streams(seed))
    if not symmetric:
        assert set(graph.in_degrees.tolist()) == {peers}
        mutual = Graph.from_edges(nodes, graph.indices, graph.receivers, symmetric=True)
        assert mutual == RandomPeers(peers=peers).graph(nodes, t, Streams(seed))
    else:
        assert graph.symmetric
        assert peers <= graph.in_degrees.min()
        doubly_stochastic(graph)


@pytest.mark.parametrize("topology", [RandomPeers(peers=2), Regular(degree=4, dynamic=True)])
def test_samplers_decentralized_and_central_let_all_pairs_meet(topology: Topology) -> None:
    """Same seed, same graphs; other rounds, others; and nobody is left out in the long run."""
    assert topology.changing
    met = np.zeros((16, 16))
    drawn = [topology.graph(16, t, Streams(5)) for t in range(300)]
    for graph in drawn:
        met[graph.receivers, graph.indices] += 1
    assert len({graph.indices.tobytes() for graph in drawn}) == 300
    assert all(topology.graph(16, t, Streams(5)) == drawn[t] for t in (0, 7, 299))
    assert topology.graph(16, 0, Streams(6)) != drawn[0]
    share = met[~np.eye(16, dtype=bool)] / 300
    expected = 1 - (1 - 2 / 15) ** 2 if isinstance(topology, RandomPeers) else 4 / 15
    assert abs(share - expected).max() < 5 * np.sqrt(expected * (1 - expected) / 300)


def test_a_draw_may_stay_for_some_rounds() -> None:
    drawn = [RandomPeers(peers=2, every=3).graph(9, t, Streams(0)) for t in range(6)]
    assert drawn[0] == drawn[1] == drawn[2] != drawn[3] == drawn[5]


@given(st.integers(2, 40), st.integers(0, 9), st.integers(0, 99))
@settings(max_examples=60)
def test_everybody_has_at_most_one_peer_in_a_matching(nodes, t, seed):
    streams = Streams(seed)
    graph = Matching().graph(nodes, t, streams)
    assert graph.symmetric
    assert sorted(graph.in_degrees.tolist()) == [0] * (nodes % 2) + [1] * (nodes // 2 * 2)
    ring = Topology.resolve("ring")
    inner = ring.graph(nodes, t, streams)
    among = Matching(among=ring).graph(nodes, t, streams)
    assert pairs(among) <= pairs(inner)
    assert among.in_degrees.max() <= 1
    free = among.in_degrees == 0  # maximal: no edge is left between two free nodes
    assert not (free[inner.receivers] & free[inner.indices]).any()
    doubly_stochastic(among)


@given(st.integers(1, 6), st.integers(0, 40))
def test_one_peer_exponential_averages_exactly_in_log2_n_rounds(power, start):
    """Ying et al. (2021); also of models, from any round on, with uniform weights."""
    n = 2**power
    product = np.eye(n)
    for t in range(start, start + power):
        step = uniform(OnePeerExponential().graph(n, t, Streams(0))).dense()
        assert (step[step > 0] == 0.5).all()
        product = step @ product
    assert (product == 1 / n).all()


# -- churn ------------------------------------------------------------------------------------


@given(
    leave=st.floats(0.01, 1), back=st.floats(0, 1), seed=st.integers(0, 50), t=st.integers(0, 40)
)
@settings(max_examples=80)
def test_random_absences_equal_a_replay_from_the_start(leave, back, seed, t):
    streams, here = Streams(seed), np.ones(12, dtype=bool)
    for s in range(1, t + 1):
        u = streams.numpy("churn", -1, s).random(12)
        here = np.where(here, u >= leave, u >= 1 - back)
    assert (markov_present(12, t, leave, back, streams) == here).all()


def test_random_absences_have_the_chains_rates() -> None:
    seen = np.stack([markov_present(400, t, 0.1, 0.3, Streams(2)) for t in range(60, 160)])
    assert abs(seen.mean() - 0.75) < 0.01
    left = (seen[:-1] & ~seen[1:]).sum() / seen[:-1].sum()
    assert abs(left - 0.1) < 0.01
    assert markov_present(400, 0, 0.1, 0.3, Streams(2)).all()


@given(st.integers(0, 30), st.integers(0, 50))
@settings(max_examples=50)
def test_the_absent_have_no_edges_and_the_rest_keep_theirs(t, seed):
    inner = Regular(degree=4, dynamic=True)
    topology = Churn(topology=inner, leave=0.2, back=0.3, absent={2: [[3, 9]]})
    topology.check(14)
    assert topology.changing
    assert topology.absences
    streams = Streams(seed)
    here = topology.present(14, t, streams)
    graph = topology.graph(14, t, streams)
    assert graph == topology.graph(14, t, streams)
    assert graph.in_degrees[~here].sum() == graph.out_degrees[~here].sum() == 0
    whole = inner.graph(14, t, streams)
    assert pairs(graph) == {(i, j) for i, j in pairs(whole) if here[i] and here[j]}
    doubly_stochastic(graph)
    assert here[2] <= (not 3 <= t < 9)


def test_a_timetable_is_followed() -> None:
    topology = Churn(topology="complete", absent={0: [[0, 2]], 1: [[1, 3], [4, None]]})
    topology.check(3)
    seen = [topology.present(3, t, Streams(0)).tolist() for t in range(6)]
    first = [False, False, True, True, True, True]
    second = [True, False, False, True, False, False]
    assert seen == [[a, b, True] for a, b in zip(first, second, strict=True)]
    assert pairs(topology.graph(3, 1, Streams(0))) == set()
    assert Topology.resolve(topology.dump()) == topology


def test_absences_show_through_other_topologies() -> None:
    churn = {"name": "churn", "topology": "ring", "absent": {1: [[0, 5]]}}
    for outer in (
        {"name": "schedule", "graphs": [churn, "ring"]},
        {"name": "matching", "among": churn},
        {"name": "churn", "topology": churn, "absent": {2: [[9, 10]]}},
    ):
        topology = Topology.resolve(outer)
        topology.check(6)
        assert topology.absences
        assert not topology.present(6, 0, Streams(1))[1]
        assert topology.graph(6, 0, Streams(1)).in_degrees[1] == 0
    assert Topology.resolve("ring").present(6, 0, Streams(1)).all()
    assert Matching().present(4, 0, Streams(1)).all()


# -- traces -----------------------------------------------------------------------------------


def test_contacts_become_graphs_of_windows(tmp_path: Path) -> None:
    path = written(tmp_path, CONTACTS)
    trace = Trace(path=path, seconds_per_round=10)
    trace.check(4)
    rounds = [{(0, 1), (1, 2)}, {(2, 3), (0, 3)}, {(0, 1)}]
    assert [pairs(trace.graph(4, t, Streams(0))) for t in range(7)] == [*rounds, *rounds, rounds[0]]
    held = Trace(path=path, seconds_per_round=10, after="hold")
    assert [pairs(held.graph(4, t, Streams(0))) for t in (2, 3, 99)] == [rounds[2]] * 3
    assert trace.graph(4, 0, Streams(0)).symmetric
    written(tmp_path, "0 0 1\n0 2 3\n")  # another file in its place is read anew
    assert pairs(trace.graph(4, 5, Streams(0))) == {(0, 1), (2, 3)}


def test_names_and_further_columns_as_in_sociopatterns(tmp_path: Path) -> None:
    path = written(tmp_path, "31220\t1558\t1567\t3B\t3B\n31240\t1558\t1613\t3B\t3C\n")
    trace = Trace(path=path, seconds_per_round=20, renumber=True)
    trace.check(3)
    assert [pairs(trace.graph(3, t, Streams(0))) for t in (0, 1)] == [{(0, 1)}, {(0, 2)}]


def test_gaps_are_kept_or_skipped(tmp_path: Path) -> None:
    path = written(tmp_path, "0,0,1\n40,1,2\n")
    for gaps, rounds in (("keep", [{(0, 1)}, set(), set(), set(), {(1, 2)}]),
                         ("skip", [{(0, 1)}, {(1, 2)}])):  # fmt: skip
        trace = Trace(path=path, seconds_per_round=10, gaps=gaps)
        trace.check(3)
        assert [pairs(trace.graph(3, t, Streams(0))) for t in range(len(rounds))] == rounds
        assert pairs(trace.graph(3, len(rounds), Streams(0))) == rounds[0]


def test_intervals_last(tmp_path: Path) -> None:
    path = written(tmp_path, "i j from to\n0 1 100 125\n1 2 110 112\n")
    trace = Trace(path=path, format="intervals", seconds_per_round=10)
    trace.check(3)
    rounds = [{(0, 1)}, {(0, 1), (1, 2)}, {(0, 1)}]
    assert [pairs(trace.graph(3, t, Streams(0))) for t in range(3)] == rounds


def test_positions_within_reach(tmp_path: Path) -> None:
    text = "t,node,x,y\n0,0,0,0\n0,1,3,4\n0,2,9,9\n1,0,0,0\n1,1,3,4.1\n"
    path = written(tmp_path, text + "1,2,3,4\n")
    trace = Trace(path=path, format="positions", radius=5)
    trace.check(3)
    assert [pairs(trace.graph(3, t, Streams(0))) for t in (0, 1)] == [{(0, 1)}, {(0, 2), (1, 2)}]
    written(tmp_path, text)
    assert "node 2 has no position in round 1" in refusal(trace, 3).problem
    stays = trace.model_copy(update={"gaps": "keep"})
    stays.check(3)
    assert pairs(stays.graph(3, 1, Streams(0))) == set()


@pytest.mark.parametrize(
    ("text", "nodes", "more", "field", "problem", "fix"),
    [
        ("0 0 1\n30 1 2\n", 3, {}, "path", "in 29 rounds, first in rounds 1 to 29", "gaps"),
        ("-5 0 1\n", 2, {}, "path", "line 1 has a negative time", "from 0"),
        ("0 0 5\n", 4, {}, "path", "node 5", "renumber"),
        ("0 0 1\n0 2 3\n", 3, {}, "path", "names 4 nodes, the run has 3", "nodes: 4"),
        ("0 0 1\n", 5, {}, "path", "only 2 of the 5", "nodes: 2"),
        ("0 0 1.5\n", 2, {}, "path", "1.5 is not a whole", "numbers"),
        ("0 -1 1\n", 2, {}, "path", "-1 is not a whole", "numbers"),
        ("0 1 1\n0 0 1\n", 2, {}, "path", "node 1 meets itself", "drop"),
        ("0 0\n", 2, {}, "path", "line 1 has 2 fields", "t i j"),
        ("0 0 1\n1 a b\n", 2, {}, "path", "line 2 is not t i j", "contacts"),
        ("nan 0 1\n", 2, {}, "path", "not finite", "drop"),
        ("# nothing\n", 2, {}, "path", "no record", "t i j"),
        (None, 2, {}, "path", "No such file", "path"),
        ("0 0 1\n", 2, {"radius": 3.0}, "radius", "positions", "format"),
        ("0 0 1 1\n", 2, {"format": "positions"}, "radius", "needed", "unit"),
        ("0 1 5 2\n", 2, {"format": "intervals"}, "path", "ends before", "from to"),
        ("0 1 0 9e9\n", 2, {"format": "intervals"}, "path", "too many", "seconds_per_round"),
        ("0 0 1\n9e9 0 1\n", 2, {"gaps": "keep"}, "path", "lasts", "skip"),
    ],
)  # fmt: skip
def test_traces_that_cannot_work(
    tmp_path: Path, text: str | None, nodes: int, more: Any, field: str, problem: str, fix: str
) -> None:
    path = tmp_path / "missing" if text is None else written(tmp_path, text)
    error = refusal(Trace(path=path, **more), nodes)
    assert error.field == field
    assert problem in error.problem
    assert fix in error.fix


@pytest.mark.parametrize(
    ("settings", "field", "problem"),
    [
        ({"name": "churn"}, "leave", "nobody ever leaves"),
        ({"name": "churn", "absent": {9: [[0, 1]]}}, "absent.9", "no node"),
        ({"name": "churn", "absent": {1: [[5, 5]]}}, "absent.1", "ascending"),
        ({"name": "churn", "absent": {1: [[5, 9], [7, 12]]}}, "absent.1", "overlap"),
        ({"name": "churn", "absent": {1: [[5, None], [7, 12]]}}, "absent.1", "for good"),
        ({"name": "churn", "leave": 0.1, "topology": {"name": "regular", "degree": 8}},
         "topology.topology.degree", "at most 7"),
        ({"name": "random_peers", "peers": 8}, "peers", "at most 7"),
        ({"name": "matching", "among": {"name": "regular", "degree": 9}}, "among.degree", "most 7"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(settings: Any, field: str, problem: str) -> None:
    error = refusal(Topology.resolve(settings), 8)
    assert error.field == field
    assert problem in error.problem


def test_a_trace_with_a_byte_order_mark_and_comments(tmp_path: Path) -> None:
    lines = "0 0 1\n0 2 3\n1 1 2\n"
    path = written(tmp_path, "\ufeff" + lines)
    trace = Trace(path=path)
    trace.check(4)
    assert pairs(trace.graph(4, 0, Streams(0))) == {(0, 1), (2, 3)}
    path.write_text("% a\n% b\n" + lines)
    trace.check(4)
    path.write_bytes(lines.encode("utf-16"))
    assert "not UTF-8" in refusal(trace, 4).problem
