"""Random graphs with unequal degrees: Erdos-Renyi and small worlds."""

from __future__ import annotations

from math import exp, log

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.topology.graph import Graph
from hansa.topology.topology import Topology

DRAWS = 2000
"""Graphs drawn in search of a connected one."""


@register("erdos_renyi", paper="Erdos and Renyi", year=1959)
class ErdosRenyi(Topology):
    """Each pair of nodes is joined with the same probability, given that all are connected.

    Erdos and Renyi (1959), in Gilbert's form.
    """

    p: float = Field(0.1, gt=0, le=1, description="probability that two nodes are joined")

    def check(self, nodes: int) -> None:
        """Refuse a probability at which less than 1 graph in 150 is connected."""
        super().check(nodes)
        # Isolated nodes are close to Poisson distributed, and what keeps a graph apart.
        isolated = nodes * (1 - self.p) ** (nodes - 1)
        if exp(-isolated) < 1 / 150:
            raise self._too_sparse(nodes)

    def graph(self, nodes: int, round: int, streams: Streams) -> Graph:
        """The first connected graph of the run's stream.

        Raises:
            ConfigError: none of 2000 draws was connected.
        """
        rng = streams.numpy("topology")
        pairs = nodes * (nodes - 1) // 2
        for _ in range(DRAWS):
            k = rng.choice(pairs, size=rng.binomial(pairs, self.p), replace=False, shuffle=False)
            high = ((1 + np.sqrt(1 + 8 * k.astype(np.float64))) / 2).astype(np.int64)
            low = k - high * (high - 1) // 2
            graph = Graph.from_edges(nodes, low, high, symmetric=True)
            if graph.connected:
                return graph
        raise self._too_sparse(nodes)

    def _too_sparse(self, nodes: int) -> ConfigError:
        least = log(nodes) / nodes
        return ConfigError(
            "p",
            self.p,
            f"a graph of {nodes} nodes is then almost never connected",
            f"p above ln(n)/n = {least:.2g}, such as {min(1.0, 1.5 * least):.2g}",
        )


@register("small_world", paper="Watts and Strogatz", year=1998, url="https://doi.org/10.1038/30918")
class SmallWorld(Topology):
    """A ring of near neighbours with some edges moved to random places (Watts, Strogatz, 1998)."""

    neighbours: int = Field(4, ge=2, multiple_of=2, description="edges of a node before rewiring")
    rewire: float = Field(0.1, ge=0, le=1, description="probability that an edge is moved")

    def check(self, nodes: int) -> None:
        """There must be more nodes than neighbours."""
        super().check(nodes)
        if self.neighbours >= nodes:
            raise ConfigError(
                "neighbours",
                self.neighbours,
                f"{nodes} nodes have at most {nodes - 1} neighbours each",
                "an even number below the number of nodes",
            )

    def graph(self, nodes: int, round: int, streams: Streams) -> Graph:
        """The first connected graph that the run's seed leads to.

        Raises:
            ConfigError: none of 2000 draws was connected.
        """
        import networkx

        seed = streams.integer("topology")
        try:
            drawn = networkx.connected_watts_strogatz_graph(
                nodes, self.neighbours, self.rewire, tries=DRAWS, seed=seed
            )
        except networkx.NetworkXError:
            raise ConfigError(
                "neighbours",
                self.neighbours,
                f"no connected small world of {nodes} nodes was found",
                "more neighbours, or a smaller rewire",
            ) from None
        return Graph.from_networkx(drawn)
