"""Graphs from files."""

import networkx as nx
import pytest

from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.topology import FromFile, Graph, Topology

PETERSEN = Graph.from_networkx(nx.petersen_graph())


def read(path, nodes=10, **settings) -> Graph:
    topology = FromFile(path=path, **settings)
    topology.check(nodes)
    return topology.graph(nodes, 0, Streams(0))


def edge_list(graph) -> str:
    rows = zip(graph.indices, graph.receivers, strict=True)
    return "".join(f"{i} {j}\n" for i, j in rows)


def test_edge_list_with_and_without_the_number_of_nodes(tmp_path):
    path = tmp_path / "a.edges"
    path.write_text("# Petersen\n10 # nodes\n\n" + edge_list(PETERSEN))
    assert read(path) == PETERSEN
    path.write_text(edge_list(PETERSEN).replace(" ", ","))
    assert read(path) == PETERSEN


def test_edge_list_keeps_directions_when_asked(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("0 1\n1 2\n2 0\n")
    graph = read(path, 3, directed=True)
    assert [graph.row(i).tolist() for i in range(3)] == [[2], [0], [1]]
    assert read(path, 3).edges == 6


def test_adjacency_list_with_an_empty_row(tmp_path):
    path = tmp_path / "a.adj"
    rows = [" ".join(map(str, PETERSEN.row(i))) for i in range(10)]
    path.write_text("10\n# rows\n" + "\n".join(rows) + "\n\n")
    assert read(path) == PETERSEN
    path.write_text("3\n1 2\n\n0\n")
    graph = read(path, 3, directed=True)
    assert [graph.row(i).tolist() for i in range(3)] == [[1, 2], [], [0]]


def test_graphml_and_a_stated_format(tmp_path):
    path = tmp_path / "a.graphml"
    nx.write_graphml(PETERSEN.to_networkx(), path)
    assert read(path) == PETERSEN
    named = nx.relabel_nodes(nx.DiGraph([(0, 1), (1, 2)]), lambda i: f"n{i}")
    nx.write_graphml(named, tmp_path / "a.xml")
    graph = read(tmp_path / "a.xml", 3, format="graphml", directed=True)
    assert graph == Graph.from_edges(3, [0, 1], [1, 2])


def test_settings_survive_as_plain_data(tmp_path):
    topology = FromFile(path=tmp_path / "a.edges", format="edges")
    assert Topology.resolve(topology.dump()) == topology


@pytest.mark.parametrize(
    ("name", "text", "field", "problem"),
    [
        ("none.edges", None, "path", "No such file"),
        ("a.dat", "0 1", "format", "does not tell"),
        ("a.edges", "4\n0 1", "path", "has 4 nodes, the run 3"),
        ("a.edges", "0 1\n0 7", "path", "edge (0, 7) is not among nodes 0..2"),
        ("a.edges", "0 1\n2 2", "path", "node 2 is its own neighbour"),
        ("a.edges", "0 1\n\nx 2", "path", "line 3"),
        ("a.edges", "0 1\n0 1 2", "path", "line 2 is not a pair"),
        ("a.adj", "1 2\n0\n0", "path", "first line"),
        ("a.adj", "3\n1\n0\n\n1", "path", "4 rows for 3 nodes"),
        ("a.graphml", "<graph", "path", "unclosed"),
        ("a.graphml", "<graph/>", "path", "as graphml"),
    ],
)
def test_refusals(tmp_path, name, text, field, problem):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read(path, 3)
    assert caught.value.field == field
    assert problem in caught.value.problem
    assert caught.value.fix


def test_graphml_nodes_must_be_numbers(tmp_path):
    nx.write_graphml(nx.Graph([("a", "b")]), tmp_path / "a.graphml")
    with pytest.raises(ConfigError, match="node 'a' is not a number"):
        read(tmp_path / "a.graphml", 2)
