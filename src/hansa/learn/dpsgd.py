"""D-PSGD: train alone, average with the neighbours (Lian et al., 2017).

Each round a node takes local steps, sends its whole model to its neighbours, and replaces it by
the weighted average of theirs and its own: x_i <- w_ii x_i + sum_j w_ij x_j, by default with
Metropolis-Hastings weights (Xiao and Boyd, 2004). As in DecentralizePy (Dhasade et al., 2023).
"""

from __future__ import annotations

from pydantic import Field

from hansa.base.component import register
from hansa.codec import Codec, Dense
from hansa.engine import Algorithm, Block, Inbox, Network, Send, WeightRule
from hansa.topology import Graph


@register("dpsgd")
class DPSGD(Algorithm):
    """Local steps, then a weighted average with the neighbours' whole models."""

    weights: WeightRule = Field(
        "metropolis_hastings", description="how much a node trusts each neighbour"
    )
    codec: Codec = Field(Dense(), description="how a model becomes bytes")

    def check(self, network: Network) -> None:
        if self.uses_topology:
            network.mixing(network.graph(0), self.weights)

    def graph(self, block: Block, t: int) -> Graph:
        """Who hears whom in round t."""
        return block.graph(t)

    def outgoing(self, block: Block, t: int) -> Send:
        return Send(block.rows, self.graph(block, t), self.codec)

    def incoming(self, block: Block, inbox: Inbox, t: int) -> None:
        inbox.mix_(block.rows, block.mixing(self.graph(block, t), self.weights))
