"""Graphs from files: edge lists, adjacency lists (both as DecentralizePy writes them), GraphML."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import ParseError

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.topology.graph import Graph
from hansa.topology.topology import Topology

Format = Literal["edges", "adjacency", "graphml"]
EXTENSIONS: dict[str, Format] = {
    ".edges": "edges",
    ".edgelist": "edges",
    ".txt": "edges",
    ".adj": "adjacency",
    ".adjlist": "adjacency",
    ".graphml": "graphml",
}
Pairs = list[tuple[int, int]]


@register("file")
class FromFile(Topology):
    """A graph read from a file: an edge list, an adjacency list, or GraphML.

    In an edge list a line ``i j`` joins two nodes, and a first line with one number is the number
    of nodes. In an adjacency list the first line is that number, and the k-th line after it lists
    whom node k hears (k from 0). ``#`` starts a comment.
    """

    least = 1
    path: Path = Field(description="the file")
    format: Format | None = Field(
        None, description="edges, adjacency or graphml (default: by the file's extension)"
    )
    directed: bool = Field(
        False, description="keep the directions (i j: j hears i); otherwise each edge is mutual"
    )

    def check(self, nodes: int) -> None:
        """The file must be there, be well formed, and name only nodes that exist."""
        super().check(nodes)
        self._read(nodes)

    def graph(self, nodes: int, round: int, streams: Streams) -> Graph:
        """The file's graph."""
        return self._read(nodes)

    def _read(self, nodes: int) -> Graph:
        form = self.format or EXTENSIONS.get(self.path.suffix.lower())
        if form is None:
            raise ConfigError(
                "format", None, f"{self.path.name} does not tell it", "edges, adjacency or graphml"
            )
        try:
            stated, pairs = _graphml(self.path) if form == "graphml" else _text(self.path, form)
        except OSError as error:
            problem = error.strerror or "cannot be read"
            raise self._wrong(problem, "give the path of a graph file") from None
        except (ValueError, ParseError) as error:
            raise self._wrong(str(error), f"see the {form} format, or set format") from None
        if stated is not None and stated != nodes:
            raise self._wrong(f"has {stated} nodes, the run {nodes}", f"nodes: {stated}")
        ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        try:
            return Graph.from_edges(nodes, ends[:, 0], ends[:, 1], symmetric=not self.directed)
        except ValueError as error:
            raise self._wrong(str(error), "number the nodes from 0, without self loops") from None

    def _wrong(self, problem: str, fix: str) -> ConfigError:
        return ConfigError("path", str(self.path), problem, fix)


def _text(path: Path, form: Format) -> tuple[int | None, Pairs]:
    """(number of nodes if stated, (sender, receiver) pairs) of an edge or adjacency list."""
    lines = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        content = line.split("#")[0]
        if "#" in line and not content.strip():
            continue
        try:
            lines.append((number, [int(word) for word in content.replace(",", " ").split()]))
        except ValueError:
            raise ValueError(f"line {number} holds something other than whole numbers") from None
    while lines and not lines[-1][1]:
        lines.pop()
    return _adjacency(lines) if form == "adjacency" else _edges(lines)


def _edges(lines: list[tuple[int, list[int]]]) -> tuple[int | None, Pairs]:
    lines = [(number, words) for number, words in lines if words]
    stated = lines.pop(0)[1][0] if lines and len(lines[0][1]) == 1 else None
    for number, words in lines:
        if len(words) != 2:
            raise ValueError(f"line {number} is not a pair of nodes")
    return stated, [(words[0], words[1]) for _, words in lines]


def _adjacency(lines: list[tuple[int, list[int]]]) -> tuple[int | None, Pairs]:
    if not lines or len(lines[0][1]) != 1:
        raise ValueError("its first line is not the number of nodes")
    stated = lines[0][1][0]
    if len(lines) - 1 > stated:
        raise ValueError(f"it has {len(lines) - 1} rows for {stated} nodes")
    return stated, [(j, i) for i, (_, words) in enumerate(lines[1:]) for j in words]


def _graphml(path: Path) -> tuple[int, Pairs]:
    import networkx

    try:
        graph = networkx.read_graphml(path)
    except networkx.NetworkXError as error:
        raise ValueError(str(error)) from None
    number: dict[str, int] = {}
    for name in graph.nodes:
        digits = re.fullmatch(r"n?(\d+)", name)
        if digits is None:
            raise ValueError(f"node {name!r} is not a number")
        number[name] = int(digits[1])
    return len(number), [(number[u], number[v]) for u, v in graph.edges()]
