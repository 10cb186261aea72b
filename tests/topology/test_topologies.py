"""Every topology: its edges, its repeatability, its refusals."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.topology import Graph, Regular, Schedule, Topology

NAMES = {
    "churn", "complete", "erdos_renyi", "exponential", "file", "matching", "one_peer_exponential",
    "random_peers", "regular", "ring", "schedule", "small_world", "star", "torus", "trace",
}  # fmt: skip


def build(settings, nodes, round=0, seed=0) -> Graph:
    topology = Topology.resolve(settings)
    topology.check(nodes)
    return topology.graph(nodes, round, Streams(seed))


def refusal(settings, nodes) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        build(settings, nodes)
    assert caught.value.fix
    return caught.value


def test_catalogue():
    assert set(catalogue("topology")) == NAMES
    for cls in catalogue("topology").values():
        assert cls.summary().endswith(".")


@pytest.mark.parametrize(
    ("settings", "nodes", "edges"),
    [
        ("ring", 2, 2),
        ("ring", 7, 14),
        ("torus", 12, 48),
        ({"name": "torus", "rows": 2}, 12, 36),
        ("torus", 4, 8),
        ("complete", 1, 0),
        ("complete", 9, 72),
        ("star", 2, 2),
        ("star", 9, 16),
        ({"name": "regular", "degree": 5}, 20, 100),
        ("exponential", 2, 2),
        ("exponential", 16, 64),
        ("exponential", 17, 85),
        ("one_peer_exponential", 17, 17),
        ({"name": "small_world", "neighbours": 6}, 30, 180),
        ({"name": "erdos_renyi", "p": 1.0}, 8, 56),
    ],
)
def test_edge_counts_and_connection(settings, nodes, edges):
    graph = build(settings, nodes)
    assert graph.edges == edges
    assert graph.nodes == nodes
    assert graph.connected


def test_plain_graphs_equal_those_of_networkx():
    assert build("ring", 9) == Graph.from_networkx(nx.cycle_graph(9))
    assert build("complete", 9) == Graph.from_networkx(nx.complete_graph(9))
    assert build("star", 9) == Graph.from_networkx(nx.star_graph(8))
    torus = nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 5, periodic=True))
    assert build("torus", 15) == Graph.from_networkx(torus)


def test_exponential_directions():
    assert build("exponential", 10).row(0).tolist() == [2, 6, 8, 9]
    heard = [build("one_peer_exponential", 10, round).row(0).tolist() for round in range(5)]
    assert heard == [[9], [8], [6], [2], [9]]


@given(st.integers(2, 40), st.integers(1, 39), st.integers(0, 2**63 - 1))
@settings(max_examples=150)
def test_regular_is_always_regular_connected_and_seeded(nodes, degree, seed):
    assume(degree < nodes and nodes * degree % 2 == 0 and (degree > 1 or nodes == 2))
    graph = build({"name": "regular", "degree": degree}, nodes, seed=seed)
    assert set(graph.in_degrees.tolist()) == {degree}
    assert graph.symmetric
    assert graph.connected
    assert graph == build({"name": "regular", "degree": degree}, nodes, round=5, seed=seed)


@given(st.integers(0, 1000), st.integers(2, 6))
@settings(max_examples=20)
def test_dynamic_regular_differs_between_rounds_and_seeds(seed, degree):
    topology = Regular(degree=degree, dynamic=True)
    assert topology.changing
    drawn = [topology.graph(32, round, Streams(seed)) for round in range(6)]
    drawn.append(topology.graph(32, 0, Streams(seed + 1)))
    assert len({graph.indices.tobytes() for graph in drawn}) == 7
    assert all(graph.connected and set(graph.in_degrees) == {degree} for graph in drawn)
    assert topology.graph(32, 3, Streams(seed)) == drawn[3]


def test_dynamic_regular_lets_all_pairs_meet_equally_often():
    met = np.zeros((12, 12))
    for round in range(600):
        graph = Regular(degree=3, dynamic=True).graph(12, round, Streams(1))
        met[graph.receivers, graph.indices] += 1
    share = met[~np.eye(12, dtype=bool)] / 600
    assert abs(share - 3 / 11).max() < 0.09  # 5 standard deviations


@given(st.integers(20, 80), st.integers(0, 99))
@settings(max_examples=30)
def test_random_graphs_are_connected_and_seeded(nodes, seed):
    for settings_ in (
        {"name": "erdos_renyi", "p": 0.2},
        {"name": "small_world", "neighbours": 4, "rewire": 0.5},
    ):
        graph = build(settings_, nodes, seed=seed)
        assert graph.connected
        assert graph.symmetric
        assert graph == build(settings_, nodes, round=7, seed=seed)
        assert graph != build(settings_, nodes, seed=seed + 100)


def test_erdos_renyi_joins_each_pair_equally_often():
    joined = np.zeros((9, 9))
    for seed in range(800):
        graph = build({"name": "erdos_renyi", "p": 0.6}, 9, seed=seed)
        joined[graph.receivers, graph.indices] += 1
    share = joined[~np.eye(9, dtype=bool)] / 800
    assert abs(share - 0.6).max() < 0.09


def test_schedule_takes_turns():
    settings_ = {
        "name": "schedule",
        "every": 2,
        "graphs": ["ring", {"name": "regular", "degree": 3}, {"name": "regular", "degree": 3}],
    }
    drawn = [build(settings_, 10, round) for round in range(8)]
    assert drawn[0] == drawn[1] == drawn[6] == build("ring", 10)
    assert drawn[2] == drawn[3] != drawn[4]
    topology = Topology.resolve(settings_)
    assert topology.changing
    assert not Schedule(graphs=("ring",)).changing
    assert Topology.resolve(topology.dump()) == topology


@pytest.mark.parametrize(
    ("settings", "nodes", "field", "problem", "fix"),
    [
        ("ring", 1, "", "cannot join 1 node", "complete"),
        ("ring", 0, "", "cannot join 0 node", "2 nodes"),
        ("torus", 13, "", "prime", "14 (2 x 7)"),
        ({"name": "torus", "rows": 5}, 12, "rows", "12 nodes", "2, 3, 4, 6"),
        ({"name": "torus", "rows": 5}, 5, "rows", "5 nodes", "ring"),
        ({"name": "regular", "degree": 8}, 8, "degree", "at most 7", "7 or less"),
        ({"name": "regular", "degree": 3}, 9, "degree", "both are odd", "degree: 4"),
        ({"name": "regular", "degree": 1}, 4, "degree", "pairs", "degree: 2"),
        ({"name": "regular", "degree": 0}, 4, "degree", "greater than", "neighbours"),
        ({"name": "erdos_renyi", "p": 0.01}, 100, "p", "never connected", "0.046"),
        ({"name": "small_world", "neighbours": 4}, 4, "neighbours", "at most 3", "even"),
        ({"name": "small_world", "neighbours": 3}, 9, "neighbours", "multiple of 2", "edges"),
        ({"name": "schedule", "graphs": []}, 4, "graphs", "at least 1", "topologies"),
        ({"name": "schedule", "graphs": ["rnig"]}, 4, "graphs.name", "no such", "'ring'"),
        (
            {"name": "schedule", "graphs": ["ring", {"name": "regular", "degree": 9}]},
            8, "graphs.1.degree", "at most 7", "7 or less",
        ),
    ],
)  # fmt: skip
def test_refusals_name_field_and_fix(settings, nodes, field, problem, fix):
    error = refusal(settings, nodes)
    assert error.field == field
    assert problem in error.problem
    assert fix in error.fix


def test_unlucky_draws_end_with_an_explanation(monkeypatch):
    monkeypatch.setattr("hansa.topology.chance.DRAWS", 1)
    hopeless = {"name": "erdos_renyi", "p": 1e-4}
    assert refusal(hopeless, 3).field == "p"
    rare = {"name": "small_world", "neighbours": 2, "rewire": 1.0}
    assert "smaller rewire" in refusal(rare, 2000).fix
