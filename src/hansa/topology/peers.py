"""Gossip partners drawn afresh each round: peer sampling and random matchings.

Peer sampling comes in two kinds. The *central* one hands out a random regular graph every round,
as DecentralizePy's sampler service does (Dhasade et al., 2023): it is ``regular`` with ``dynamic:
true``, drawn here from the round's shared stream, so that no service is needed. The
*decentralized* one is :class:`RandomPeers`: every node draws for itself (Jelasity et al., 2007).
Its streams are named, so every node can evaluate any other's draw alone, and same seed means same
graphs.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.streams import SHARED, Streams
from hansa.topology.graph import Graph
from hansa.topology.topology import Topology


@register(
    "random_peers",
    paper="Jelasity et al.",
    year=2007,
    url="https://doi.org/10.1145/1275517.1275520",
)
class RandomPeers(Topology):
    """Each node draws its peers of the round from a stream of its own, n d draws in all.

    Symmetric, a node also exchanges with those who drew it: 2 d neighbours on average, d at
    least. Directed, it hears those d and no others; weights must then be ``uniform``.
    """

    peers: int = Field(2, ge=1, description="nodes that each node draws (d)")
    symmetric: bool = Field(True, description="whoever is heard hears too")
    every: int = Field(1, ge=1, description="rounds for which a draw stays")

    @property
    def changing(self) -> bool:
        """Each draw differs."""
        return True

    def check(self, nodes: int) -> None:
        """There must be so many others."""
        super().check(nodes)
        if self.peers >= nodes:
            raise ConfigError(
                "peers",
                self.peers,
                f"{nodes} nodes have at most {nodes - 1} peers each",
                f"peers: {nodes - 1} or less",
            )

    def graph(self, nodes: int, round: int, streams: Streams) -> Graph:
        """The draws of all nodes for a round."""
        turn = round // self.every
        drawn = np.empty((nodes, self.peers), dtype=np.int64)
        for i in range(nodes):
            random = streams.numpy("peers", i, turn)
            drawn[i] = random.choice(nodes - 1, self.peers, replace=False, shuffle=False)
        here = np.arange(nodes)[:, None]
        drawn += drawn >= here
        return Graph.from_edges(
            nodes, drawn, np.repeat(here, self.peers, axis=1), symmetric=self.symmetric
        )


@register("matching", paper="Boyd et al.", year=2006, url="https://doi.org/10.1109/TIT.2006.874516")
class Matching(Topology):
    """Random pairs each round: everybody has at most one peer (Boyd et al., 2006).

    Without an inner topology all nodes are paired, but for one where their number is odd.
    ``among`` restricts the pairs to the edges of another topology: edges are taken in random
    order if both ends are still free, which leaves a maximal matching; directions do not count.
    """

    among: Topology | None = Field(None, description="topology whose edges may be used; none = any")

    @property
    def changing(self) -> bool:
        """Each round has its own pairs."""
        return True

    @property
    def absences(self) -> bool:
        """As in the topology inside."""
        return self.among is not None and self.among.absences

    def present(self, nodes: int, round: int, streams: Streams) -> np.ndarray:
        """Who takes part, by the topology inside."""
        if self.among is None:
            return super().present(nodes, round, streams)
        return self.among.present(nodes, round, streams)

    def check(self, nodes: int) -> None:
        """The topology inside must work."""
        super().check(nodes)
        if self.among is not None:
            try:
                self.among.check(nodes)
            except ConfigError as error:
                raise error.under("among") from None

    def graph(self, nodes: int, round: int, streams: Streams) -> Graph:
        """The round's pairs."""
        random = streams.numpy("matching", SHARED, round)
        if self.among is None:
            order = random.permutation(nodes)[: nodes // 2 * 2].reshape(-1, 2)
            return Graph.from_edges(nodes, order[:, 0], order[:, 1], symmetric=True)
        inner = self.among.inner_graph(nodes, round, streams)
        edges = random.permutation(inner.edges)
        free = [True] * nodes
        pairs = []
        for i, j in np.stack([inner.receivers, inner.indices], axis=1)[edges].tolist():
            if free[i] and free[j]:
                free[i] = free[j] = False
                pairs.append((i, j))
        taken = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return Graph.from_edges(nodes, taken[:, 0], taken[:, 1], symmetric=True)
