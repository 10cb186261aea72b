"""Exponential graphs: distances that are powers of two (Assran et al., 2019; Ying et al., 2021).

Both are directed. With ``uniform`` weights they are doubly stochastic, since every node hears
and is heard by equally many.
"""

from __future__ import annotations

import numpy as np

from hansa.base.component import register
from hansa.base.streams import Streams
from hansa.topology.graph import Graph
from hansa.topology.topology import Topology


@register("exponential", paper="Assran et al.", year=2019, url="https://arxiv.org/abs/1811.10792")
class Exponential(Topology):
    """Each node hears those 1, 2, 4, 8, ... places before it."""

    def graph(self, nodes: int, round: int, streams: Streams) -> Graph:
        """ceil(log2 n) neighbours each."""
        here = np.arange(nodes)
        hops = 2 ** np.arange(_powers(nodes))
        return Graph.from_edges(
            nodes, (here[:, None] - hops) % nodes, np.repeat(here[:, None], len(hops), axis=1)
        )


@register(
    "one_peer_exponential", paper="Ying et al.", year=2021, url="https://arxiv.org/abs/2110.13363"
)
class OnePeerExponential(Topology):
    """Each node hears one other, 1, 2, 4, ... places before it in turn from round to round.

    Where the number of nodes is a power of two, log2 n rounds average exactly.
    """

    @property
    def changing(self) -> bool:
        """Every round has its own distance."""
        return True

    def graph(self, nodes: int, round: int, streams: Streams) -> Graph:
        """Node i hears (i - 2^(round mod ceil(log2 n))) mod n."""
        here = np.arange(nodes)
        return Graph.from_edges(nodes, (here - 2 ** (round % _powers(nodes))) % nodes, here)


def _powers(nodes: int) -> int:
    """ceil(log2(nodes)): how many powers of two are below ``nodes``."""
    return (nodes - 1).bit_length()
