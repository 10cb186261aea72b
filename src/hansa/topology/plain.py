"""Graphs without settings or chance: ring, torus, complete, star."""

from __future__ import annotations

from math import isqrt

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.topology.graph import Graph
from hansa.topology.topology import Topology


@register("ring")
class Ring(Topology):
    """Each node hears the one before and the one after it."""

    def graph(self, nodes: int, round: int, streams: Streams) -> Graph:
        """2 neighbours each (1 where there are two nodes)."""
        here = np.arange(nodes)
        return Graph.from_edges(nodes, here, (here + 1) % nodes, symmetric=True)


@register("torus")
class Torus(Topology):
    """A grid whose borders meet: each node hears the nodes above, below, left and right."""

    least = 4
    rows: int | None = Field(
        None, ge=2, description="rows of the grid, a divisor of nodes (default: the squarest grid)"
    )

    def check(self, nodes: int) -> None:
        """The nodes must fill a grid of at least 2 rows and 2 columns."""
        super().check(nodes)
        if self.rows is not None and (nodes % self.rows or nodes == self.rows):
            fits = [str(r) for r in range(2, nodes // 2 + 1) if nodes % r == 0]
            fix = f"rows: one of {', '.join(fits)}" if fits else "topology: ring"
            raise ConfigError("rows", self.rows, f"do not divide {nodes} nodes into a grid", fix)
        if self._rows(nodes) == 1:
            above = nodes + 1
            raise ConfigError(
                "",
                "torus",
                f"{nodes} nodes are a prime number and fill no grid",
                f"nodes: {above} ({self._rows(above)} x {above // self._rows(above)}), or "
                "topology: ring",
            )

    def graph(self, nodes: int, round: int, streams: Streams) -> Graph:
        """4 neighbours each; a side of 2 gives one neighbour where a longer one gives two."""
        rows = self._rows(nodes)
        here = np.arange(nodes).reshape(rows, nodes // rows)
        next_to = np.stack([np.roll(here, 1, axis=0), np.roll(here, 1, axis=1)])
        return Graph.from_edges(nodes, np.stack([here, here]), next_to, symmetric=True)

    def _rows(self, nodes: int) -> int:
        return self.rows or next(r for r in range(isqrt(nodes), 0, -1) if nodes % r == 0)


@register("complete")
class Complete(Topology):
    """Everyone hears everyone."""

    least = 1

    def graph(self, nodes: int, round: int, streams: Streams) -> Graph:
        """nodes - 1 neighbours each."""
        return complete_graph(nodes)


@register("star")
class Star(Topology):
    """Node 0 hears everyone and everyone hears node 0."""

    def graph(self, nodes: int, round: int, streams: Streams) -> Graph:
        """nodes - 1 neighbours for node 0, one for the others."""
        others = np.arange(1, nodes)
        return Graph.from_edges(nodes, np.zeros_like(others), others, symmetric=True)


def complete_graph(nodes: int) -> Graph:
    """Every ordered pair of distinct nodes."""
    offsets = np.arange(nodes + 1, dtype=np.int64) * (nodes - 1)
    below = np.arange(nodes - 1, dtype=np.int64)
    rows = below[None, :] + (below[None, :] >= np.arange(nodes)[:, None])
    return Graph(offsets, rows.reshape(-1))
