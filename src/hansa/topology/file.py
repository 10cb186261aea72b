"""Graphs from files: as networkx, DecentralizePy and most collections of graphs write them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.topology.graph import Graph
from hansa.topology.graphfile import EXTENSIONS, OTHERS, Edges, Format, read
from hansa.topology.names import numbering
from hansa.topology.topology import Topology


@register("file")
class FromFile(Topology):
    """A graph read from a file: a list of edges or of neighbours, GraphML, GML or GEXF.

    In an edge list a line ``i j`` joins two nodes; a weight or a dictionary may follow, and a
    first line with one number is the number of nodes. In an adjacency list that number comes
    first and the k-th line after it lists whom node k hears (k from 0), or, as networkx writes
    it, each line names a node and its neighbours. ``#`` and, at the beginning, ``%`` start a
    comment. Nodes are numbers from 0, or from 1 to the number of nodes; other names are numbered
    in sorted order. An edge that is listed twice counts once.
    """

    least = 1
    path: Path = Field(description="the file")
    format: Format | None = Field(
        None,
        description="edges, adjacency, multiline, graphml, gml or gexf (default: by the file's "
        "extension)",
    )
    directed: bool | None = Field(
        None,
        description="true: keep the directions (i j: j hears i); false: each edge is mutual; not "
        "set: as GraphML, GML or GEXF says, and mutual in the other forms",
    )
    edge_weights: Literal["mixing", "ignore"] | None = Field(
        None,
        description="mixing: a weight is what a receiver gives to that sender's model, and the "
        "rest of 1 to its own; ignore: the graph alone counts; not set: mixing if each node's "
        "weights add up to 1 at most, else they are refused",
    )

    def check(self, nodes: int) -> None:
        """The file must be there, be well formed, and name only nodes that exist."""
        super().check(nodes)
        self._read(nodes)

    def graph(self, nodes: int, round: int, streams: Streams) -> Graph:
        """The file's graph."""
        return self._read(nodes)[0]

    def remarks(self, nodes: int) -> list[str]:
        """How names became numbers, and what became of repeated edges and of weights."""
        return self._read(nodes)[1]

    def _read(self, nodes: int) -> tuple[Graph, list[str]]:
        form = self.format or EXTENSIONS.get(self.path.suffix.lower())
        if form is None and (other := OTHERS.get(self.path.suffix.lower())):
            fix = "write it anew, such as with networkx.write_edgelist"
            raise self._wrong(f"is a {other} file, which is not read", fix)
        if form is None:
            raise ConfigError(
                "format",
                None,
                f"{self.path.name} does not tell it",
                "edges, adjacency, multiline, graphml, gml or gexf",
            )
        try:
            edges = read(self.path, form, self.edge_weights != "ignore")
        except OSError as error:
            problem = error.strerror or "cannot be read"
            raise self._wrong(problem, "give the path of a graph file") from None
        except ValueError as error:
            raise self._wrong(str(error), f"see the {form} format, or set format") from None
        if edges.stated is not None and edges.stated != nodes:
            raise self._wrong(
                f"has {edges.stated} nodes, the run {nodes}", f"nodes: {edges.stated}"
            )
        if self.directed and edges.directed is False:
            problem = f"the edges of {self.path.name} have no direction"
            raise ConfigError("directed", True, problem, "leave it out")
        directed = bool(edges.directed) if self.directed is None else self.directed
        weights = self._weights(edges)
        try:
            ends, remarks = _numbered(edges, nodes)
            listed = len({*edges.names, *(name for pair in edges.ends for name in pair)})
            if listed > nodes:
                raise self._wrong(f"has {listed} nodes, the run {nodes}", f"nodes: {listed}")
            graph = Graph.from_edges(nodes, *_edges(ends, weights), symmetric=not directed)
        except ValueError as error:
            fix = f"number the nodes from 0 to {nodes - 1}, without self loops"
            raise self._wrong(str(error), fix) from None
        if self.directed is None and edges.directed is None:
            remarks += _one_way(ends, edges.hint)
        if repeated := len(ends) - len(set(ends)):
            remarks.append(f"{repeated} edges are listed more than once and count once")
        if weights is None:
            return graph, remarks
        return self._mixed(graph, ends, weights, directed, remarks)

    def _weights(self, found: Edges) -> np.ndarray | None:
        """The weights [edges] where there are any that say something."""
        if self.edge_weights == "ignore":
            return None
        if self.edge_weights is None and set(found.weights) <= {None, 1.0}:
            return None
        if set(found.weights) <= {None}:
            problem = f"the edges of {self.path.name} have no weights"
            raise ConfigError("edge_weights", self.edge_weights, problem, "leave it out")
        if None in found.weights:
            problem = f"some edges of {self.path.name} have a weight and some have none"
            raise ConfigError("edge_weights", self.edge_weights, problem, "edge_weights: ignore")
        return np.array(found.weights, dtype=np.float64)

    def _mixed(
        self,
        graph: Graph,
        ends: list[tuple[int, int]],
        weights: np.ndarray,
        directed: bool,
        remarks: list[str],
    ) -> tuple[Graph, list[str]]:
        """The graph with the file's weights, if they can mix models."""
        try:
            weighted = graph.with_weights(ends, weights, symmetric=not directed)
        except ValueError as error:
            raise ConfigError(
                "edge_weights",
                self.edge_weights,
                f"the weights of {self.path.name} cannot mix models: {error}",
                "edge_weights: ignore for the graph alone, or weights of which each node's add up "
                "to 1 at most",
            ) from None
        said = "the edges' weights mix the models, in place of the algorithm's weights"
        return weighted, [*remarks, said]

    def _wrong(self, problem: str, fix: str) -> ConfigError:
        return ConfigError("path", str(self.path), problem, fix)


def _numbered(found: Edges, nodes: int) -> tuple[list[tuple[int, int]], list[str]]:
    names = [*found.names, *(name for pair in found.ends for name in pair)]
    number, remark = numbering(names, nodes, found.places)
    return [(number[a], number[b]) for a, b in found.ends], [remark] if remark else []


def _one_way(ends: list[tuple[int, int]], hint: bool) -> list[str]:
    """A remark where edges seem to have a direction that the form does not tell."""
    pairs = {(a, b) for a, b in ends if a != b}
    both = sum((b, a) in pairs for a, b in pairs)
    if hint:
        why = "a comment says that edges have a direction"
    elif 2 < both < len(pairs):  # one pair of them may be a slip
        why = "some edges are listed both ways and some one way"
    else:
        return []
    return [f"{why}; all were taken as mutual (directed: true keeps directions)"]


def _edges(
    ends: list[tuple[int, int]], weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Senders and receivers; a loop with a weight is a node's weight for itself, and no edge."""
    pairs = np.array(ends, dtype=np.int64).reshape(-1, 2)
    if weights is not None:
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return pairs[:, 0], pairs[:, 1]
