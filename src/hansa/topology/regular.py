"""Random regular graphs: every node has the same number of neighbours.

Edge ends are paired at random (Bollobas, 1980); the few pairs that are loops or repetitions are
switched with random good ones (McKay and Wormald, 1990), which keeps every degree and is close
to uniform over all regular graphs while the degree is small beside the square root of the number
of nodes. A graph that falls apart is drawn anew, never patched: patching with a ring, as
DecentralizePy does, costs the regularity.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.streams import SHARED, Streams
from hansa.topology.graph import Graph
from hansa.topology.plain import complete_graph
from hansa.topology.topology import Topology

TRIES = 200
"""Switches tried for one bad pair before the whole pairing is drawn anew."""


@register("regular")
class Regular(Topology):
    """A connected random graph in which every node has the same number of neighbours."""

    degree: int = Field(4, ge=1, description="neighbours of each node")
    dynamic: bool = Field(False, description="draw a fresh graph every round")

    @property
    def changing(self) -> bool:
        """Whether each round has its own graph."""
        return self.dynamic

    def check(self, nodes: int) -> None:
        """Nodes times degree must be even, and the degree less than the number of nodes."""
        super().check(nodes)
        d = self.degree
        if d >= nodes:
            raise ConfigError(
                "degree", d, f"{nodes} nodes have at most {nodes - 1} neighbours each",
                f"degree: {nodes - 1} or less, or {d + 1} nodes or more",
            )  # fmt: skip
        if nodes * d % 2:
            raise ConfigError(
                "degree", d, f"{nodes} nodes cannot have {d} neighbours each: both are odd",
                f"degree: {d + 1}, or nodes: {nodes + 1}",
            )  # fmt: skip
        if d == 1 and nodes > 2:
            raise ConfigError("degree", d, "the graph would fall apart into pairs", "degree: 2")

    def graph(self, nodes: int, round: int, streams: Streams) -> Graph:
        """The run's graph, or the round's where ``dynamic``."""
        rng = streams.numpy("topology", round=round if self.dynamic else SHARED)
        return random_regular(nodes, self.degree, rng)


def random_regular(nodes: int, degree: int, rng: np.random.Generator) -> Graph:
    """A random connected graph with exactly ``degree`` neighbours for each node.

    Needs nodes * degree even and degree < nodes; for degree 2 it is a random cycle through all
    nodes, and from half of the nodes on it is the complement of a sparse graph.
    """
    if degree == nodes - 1:
        return complete_graph(nodes)
    if degree == 2:
        order = rng.permutation(nodes)
        return Graph.from_edges(nodes, order, np.roll(order, 1), symmetric=True)
    sparse = min(degree, nodes - 1 - degree)
    while True:
        pairs = _pairing(nodes, sparse, rng)
        if pairs is None:
            continue
        if sparse < degree:
            pairs = _complement(nodes, pairs)
        graph = Graph.from_edges(nodes, pairs // nodes, pairs % nodes, symmetric=True)
        if graph.connected:
            return graph


def _pairing(nodes: int, degree: int, rng: np.random.Generator) -> np.ndarray | None:
    """Pairs low * nodes + high [nodes * degree / 2], all distinct; None where switching failed."""
    ends = rng.permutation(np.repeat(np.arange(nodes), degree)).reshape(-1, 2)
    low, high = ends.min(axis=1), ends.max(axis=1)
    pairs = low * nodes + high
    first = np.zeros(len(pairs), dtype=bool)
    first[np.unique(pairs, return_index=True)[1]] = True
    good = first & (low != high)
    if good.all():
        return pairs
    if not good.any():
        return None
    taken = set(pairs[good].tolist())
    settled = np.flatnonzero(good).tolist()
    listed: list[int] = pairs.tolist()
    for k in np.flatnonzero(~good).tolist():
        u, v = divmod(listed[k], nodes)
        for draw in rng.integers(2 * len(settled), size=TRIES).tolist():
            other = settled[draw // 2]
            x, y = divmod(listed[other], nodes)
            if draw % 2:
                x, y = y, x
            one, two = _pair(u, x, nodes), _pair(v, y, nodes)
            if u != x and v != y and one != two and one not in taken and two not in taken:
                taken.remove(listed[other])
                taken.update((one, two))
                listed[k], listed[other] = one, two
                settled.append(k)
                break
        else:
            return None
    return np.array(listed, dtype=np.int64)


def _pair(u: int, v: int, nodes: int) -> int:
    return u * nodes + v if u < v else v * nodes + u


def _complement(nodes: int, pairs: np.ndarray) -> np.ndarray:
    """The pairs low < high that are not among ``pairs``."""
    absent = np.triu(np.ones((nodes, nodes), dtype=bool), k=1)
    absent.reshape(-1)[pairs] = False
    return np.flatnonzero(absent)
