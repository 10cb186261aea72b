"""Graphs from files."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.engine import Network
from hansa.topology import FromFile, Graph, Topology
from hansa.topology import given as given_weights
from hansa.topology.names import numbering

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
        ("a.edges", "0 1\n0 1 2 3", "path", "line 2 ('0 1 2 3') is not a pair"),
        ("a.edges", "0 1 {'weight'", "path", "line 1 (\"0 1 {'weight'\"): what follows"),
        ("a.edges", "0 1 heavy", "path", "the weight 'heavy' is no number"),
        ("a.edges", "1 2\n01 0", "path", "'1' and '01' would both be node 1"),
        ("a.adj", "1 2\n0\n0", "path", "line 3 ('0') lists the neighbours of 0 again"),
        ("a.adj", "", "path", "empty"),
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


WRITERS = {
    "a.edgelist": nx.write_edgelist,
    "b.edgelist": lambda graph, path: nx.write_edgelist(graph, path, data=False, delimiter=","),
    "a.tsv": lambda graph, path: nx.write_edgelist(graph, path, data=False, delimiter="\t"),
    "a.adjlist": nx.write_adjlist,
    "a.graphml": nx.write_graphml,
    "a.gml": nx.write_gml,
    "a.gexf": nx.write_gexf,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("called", [None, "n{}", "city {}"])
def test_what_networkx_writes(name, called, tmp_path):
    graph = nx.petersen_graph()
    if called:
        if " " in called and name in ("a.edgelist", "a.adjlist"):
            called = "city{}"  # its own reader cannot tell names with spaces apart either
        graph = nx.relabel_nodes(graph, {k: called.format(k) for k in range(10)})
    WRITERS[name](graph, tmp_path / name)
    assert read(tmp_path / name) == PETERSEN


def test_a_multiline_list(tmp_path):
    nx.write_multiline_adjlist(nx.petersen_graph(), tmp_path / "a.txt")
    assert read(tmp_path / "a.txt", format="multiline") == PETERSEN


def test_marks_of_other_collections(tmp_path):
    path = tmp_path / "a.txt"
    rows = list(zip(PETERSEN.indices, PETERSEN.receivers, strict=True))
    body = "".join(f"{i + 1} {j + 1}\n" for i, j in rows)
    path.write_text("% sym unweighted\n% 15 10 10\n" + body, encoding="utf-8")
    assert read(path) == PETERSEN
    assert "numbered from 1" in FromFile(path=path).remarks(10)[0]
    path.write_text(edge_list(PETERSEN).replace("\n", "\r\n"), encoding="utf-8-sig")
    assert read(path) == PETERSEN
    path.write_text("source,target\n" + edge_list(PETERSEN).replace(" ", ", "))
    assert read(path) == PETERSEN


@given(st.permutations(range(12)), st.sampled_from(["city {}", "{}km", "a{}b{}"]))
def test_names_are_numbered_in_their_order(order, pattern):
    names = [pattern.format(k, k) for k in order]
    number, remark = numbering(names, 12, {})
    assert [number[pattern.format(k, k)] for k in range(12)] == list(range(12))
    assert remark


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("0", "1", "n1"), "name them alike"),
        (("n1", "n01"), "would both be node 1"),
        (("1", "001"), "would both be node 1"),
    ],
)
def test_two_names_are_never_one_node(names, problem, tmp_path):
    nx.write_graphml(nx.path_graph(names), tmp_path / "a.graphml")
    with pytest.raises(ConfigError, match=problem):
        read(tmp_path / "a.graphml", len(names))


@pytest.mark.parametrize("name", ["a.edgelist", "a.graphml", "a.gml", "a.gexf"])
def test_weights_that_mix_are_used(name, tmp_path):
    graph = nx.cycle_graph(6)
    nx.set_edge_attributes(graph, 0.25, "weight")
    graph[0][1]["weight"] = 0.5
    WRITERS[name](graph, tmp_path / name)
    found = read(tmp_path / name, 6)
    matrix = Network(FromFile(path=tmp_path / name), 6, Streams(0)).mixing(found, "uniform").dense()
    expected = nx.to_numpy_array(graph)
    expected[range(6), range(6)] = 1 - expected.sum(1)
    assert np.allclose(matrix, expected)
    assert any("mix the models" in text for text in FromFile(path=tmp_path / name).remarks(6))
    assert read(tmp_path / name, 6, edge_weights="ignore").weights is None
    churned = found.keep((found.indices != 0) & (found.receivers != 0))
    assert given_weights(churned).dense()[0, 0] == 1
    assert np.allclose(given_weights(churned).dense().sum(1), 1)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0 1 2.5\n1 2 2.5", "node 0 gives 2.5"),
        ("0 1 -0.5\n1 2 0.1", r"edge \(0, 1\) has weight -0.5"),
        ("0 1 nan\n1 2 0.1", "has weight nan"),
        ("0 1 0.5\n1 0 0.25\n1 2 0.1", "has weights 0.5 and 0.25|has weights 0.25 and 0.5"),
        ("0 0 0.9\n0 1 0.5\n1 2 0.1", "0.9 to itself"),
        ("0 1 0.5\n1 2", "some edges .* have a weight and some have none"),
    ],
)
def test_weights_that_do_not_mix_are_refused(text, problem, tmp_path):
    path = tmp_path / "a.edges"
    path.write_text(text)
    with pytest.raises(ConfigError, match=problem) as caught:
        read(path, 3)
    assert caught.value.field == "edge_weights"
    assert "ignore" in caught.value.fix


def test_a_node_s_weight_for_itself_and_weights_of_one(tmp_path):
    path = tmp_path / "a.edges"
    path.write_text("0 0 0.5\n0 1 0.5\n1 2 0.25\n1 1 0.25\n2 2 .75")
    graph = read(path, 3)
    assert given_weights(graph).dense().tolist() == [
        [0.5, 0.5, 0],
        [0.5, 0.25, 0.25],
        [0, 0.25, 0.75],
    ]
    path.write_text("0 1 1\n1 2 1.0\n")
    assert read(path, 3).weights is None


def test_directions_as_the_file_says(tmp_path):
    nx.write_graphml(nx.DiGraph([(0, 1), (1, 2), (2, 0)]), tmp_path / "a.graphml")
    assert [read(tmp_path / "a.graphml", 3).row(i).tolist() for i in range(3)] == [[2], [0], [1]]
    assert read(tmp_path / "a.graphml", 3, directed=False).edges == 6
    nx.write_graphml(nx.path_graph(3), tmp_path / "b.graphml")
    with pytest.raises(ConfigError, match="have no direction"):
        read(tmp_path / "b.graphml", 3, directed=True)


def test_repeats_and_pieces(tmp_path):
    path = tmp_path / "a.edges"
    path.write_text("0 1\n0 1\n1 0\n3 4\n")
    graph = read(path, 6)
    assert (graph.edges, graph.pieces) == (4, 4)
    assert FromFile(path=path).remarks(6) == ["1 edges are listed more than once and count once"]
    path.write_text("# nothing\n")
    assert read(path, 3).pieces == 3


RING = "0 1\n1 2\n2 3\n3 0\n"


def refused(path, nodes=4, **settings) -> ConfigError:
    with pytest.raises(ConfigError) as found:
        read(path, nodes, **settings)
    return found.value


def test_mixing_by_weights_that_are_not_there_or_not_fit_is_refused(tmp_path):
    path = tmp_path / "a.edges"
    path.write_text(RING)
    assert "have no weights" in refused(path, edge_weights="mixing").problem
    path.write_text(RING.replace("\n", " 1\n"))
    assert read(path, 4).weights is None
    assert "gives 2" in refused(path, edge_weights="mixing").problem


@pytest.mark.parametrize("behind", ["{'weight': nan}", "{'weight': 'strong'}", "friend", "3 1982"])
def test_what_follows_an_edge_may_be_ignored(behind, tmp_path):
    path = tmp_path / "a.edges"
    path.write_text(RING.replace("\n", f" {behind}\n"))
    refused(path)
    assert read(path, 4, edge_weights="ignore").edges == 8
    path.write_text(RING.replace("\n", " {'weight': nan}\n"))
    assert "weight nan" in refused(path).problem


def test_a_first_line_of_names_above_numbers(tmp_path):
    path = tmp_path / "a.csv"
    for names in ("u,v", "node1,node2", "i,j"):
        path.write_text(f"{names}\n" + RING.replace(" ", ","))
        assert read(path, 4).edges == 8
    path.write_text("a b\n0 1\n1 c\n")
    assert "some are not" in refused(path).problem


def test_too_many_nodes_and_other_forms_have_a_way_out(tmp_path):
    path = tmp_path / "a.edges"
    path.write_text(RING)
    assert refused(path, 3).fix == "nodes: 4"
    for name in ("a.net", "a.mtx", "a.g6", "a.json"):
        (tmp_path / name).write_text(RING)
        assert "write_edgelist" in refused(tmp_path / name).fix


def test_fewer_rows_than_nodes_are_refused(tmp_path):
    path = tmp_path / "a.adj"
    path.write_text("4\n1 3\n0 2\n")
    assert "2 rows for 4 nodes" in refused(path).problem
    path.write_text("4\n1 2\n0 2\n0 1\n\n")
    assert read(path, 4).row(3).tolist() == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("% asym unweighted\n" + RING, "a comment says"),
        ("# Directed graph\n" + RING, "a comment says"),
        (RING + "1 0\n2 1\n", "both ways and some one way"),
        ("# Undirected graph\n" + RING, ""),
        (RING + "1 0\n2 1\n3 2\n0 3\n", ""),
    ],
)
def test_directions_that_are_dropped_are_remarked(text, words, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(text)
    remarks = [r for r in FromFile(path=path).remarks(4) if "mutual" in r]
    assert bool(remarks) == bool(words)
    assert not words or words in remarks[0]
    assert not [r for r in FromFile(path=path, directed=True).remarks(4) if "mutual" in r]
