"""An algorithm of your own in one file: each round a node averages with one random neighbour.

    hansa learn random_neighbour --set plugins=[examples/own_algorithm.py]

docs/tutorials/your_own_algorithm.md walks through it.
"""

import numpy as np
from pydantic import Field

from hansa import Algorithm, Block, Graph, Inbox, Send, register


@register("random_neighbour")
class RandomNeighbour(Algorithm):
    """Local steps, then go part of the way towards one random neighbour's model."""

    trust: float = Field(0.5, gt=0, le=1, description="how far to go; 1 takes the other's model")

    def outgoing(self, block: Block, t: int) -> Send:
        everyone = block.graph(t)
        heard = [self.choose(block, everyone, i, t) for i in range(block.nodes)]
        return Send(block.rows, Graph.from_edges(block.nodes, heard, np.arange(block.nodes)))

    def choose(self, block: Block, graph: Graph, node: int, t: int) -> int:
        """The neighbour that a node hears in round t; every worker draws the same one."""
        return int(block.streams.numpy("random_neighbour", node, t).choice(graph.row(node)))

    def incoming(self, block: Block, inbox: Inbox, t: int) -> None:
        theirs = [inbox.messages(k)[1][0] for k in range(len(block))]
        for row, other in zip(block.rows, theirs, strict=True):
            row.lerp_(other, self.trust)
