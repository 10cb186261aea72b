"""Graphs in compressed rows."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.topology import Graph


@st.composite
def graphs(draw):
    nodes = draw(st.integers(1, 12))
    node = st.integers(0, nodes - 1)
    pairs = draw(st.lists(st.tuples(node, node).filter(lambda p: p[0] != p[1]), max_size=40))
    senders, receivers = ([p[k] for p in pairs] for k in (0, 1))
    return Graph.from_edges(nodes, senders, receivers, symmetric=draw(st.booleans()))


@given(graphs())
def test_rows_are_ascending_without_repetition_or_loop(graph):
    assert graph.indptr.dtype == graph.indices.dtype == np.int64
    for i in range(graph.nodes):
        row = graph.row(i)
        assert (np.diff(row) > 0).all()
        assert i not in row


@given(graphs())
def test_networkx_round_trip_and_its_verdicts(graph):
    other = graph.to_networkx()
    assert Graph.from_networkx(other) == graph
    assert graph.symmetric is not other.is_directed()
    assert graph.connected == nx.is_strongly_connected(nx.DiGraph(other))
    assert graph.edges == nx.DiGraph(other).number_of_edges()


@given(graphs())
def test_transpose_lists_who_hears_a_node(graph):
    back = graph.transpose()
    for i in range(graph.nodes):
        assert back.row(i).tolist() == [j for j in range(graph.nodes) if i in graph.row(j)]
    assert back.transpose() == graph
    assert back.in_degrees.tolist() == graph.out_degrees.tolist()


def test_direction_and_repetition():
    graph = Graph.from_edges(3, senders=[0, 0, 2, 0], receivers=[1, 1, 1, 2])
    assert graph.row(1).tolist() == [0, 2]
    assert graph.in_degrees.tolist() == [0, 2, 1]
    assert graph.out_degrees.tolist() == [2, 0, 1]
    assert graph.edges == 3
    assert not graph.symmetric
    assert graph != Graph.from_edges(3, [0, 0, 2], [1, 2, 1], symmetric=True)
    assert graph != "a graph"


@pytest.mark.parametrize(
    ("senders", "receivers", "problem"),
    [
        ([0, 3], [1, 0], r"edge \(3, 0\) is not among nodes 0\.\.2"),
        ([-1], [0], r"edge \(-1, 0\)"),
        ([0, 1], [1, 1], "node 1 is its own neighbour"),
        ([0, 1], [1], "2 senders do not pair with 1 receivers"),
    ],
)
def test_bad_edges_are_refused(senders, receivers, problem):
    with pytest.raises(ValueError, match=problem):
        Graph.from_edges(3, senders, receivers)


def test_networkx_nodes_must_be_numbered():
    with pytest.raises(ValueError, match=r"not the integers 0\.\.1"):
        Graph.from_networkx(nx.Graph([("a", "b")]))
