"""Epidemic Learning, local variant: send to random nodes each round (de Vos et al., 2023).

Each node sends its model to ``fanout`` others drawn uniformly, afresh each round, and takes the
plain mean of its own and whatever arrived; if nothing came it keeps its model. The published code
also sends everyone else a notice that nothing will come; here the draws come from named streams
that every node can evaluate, so no notice is needed and none is counted.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.engine import Block, Network, WeightRule
from hansa.learn.gossip.dpsgd import DPSGD
from hansa.topology import Graph


@register("el_local", paper="de Vos et al.", year=2023, url="https://arxiv.org/abs/2310.01972")
class ELLocal(DPSGD):
    """Epidemic Learning: each node sends to a few random others; the topology is not used."""

    fanout: int = Field(4, ge=1, description="nodes that each node sends to in a round")
    uses_topology: ClassVar[bool] = False
    weights: WeightRule = Field("uniform", description="how much a node trusts each message")

    def check(self, network: Network) -> None:
        super().check(network)
        nodes = network.nodes
        if self.fanout >= nodes:
            raise ConfigError(
                "fanout", self.fanout, f"there are only {nodes - 1} others", f"1 to {nodes - 1}"
            )

    def graph(self, block: Block, t: int) -> Graph:
        """Who hears whom: every worker draws the same graph."""
        n, s = block.nodes, self.fanout
        receivers = np.empty((n, s), dtype=np.int64)
        for i in range(n):
            random = block.streams.numpy("el_local", i, t)
            drawn = random.choice(n - 1, s, replace=False)
            receivers[i] = drawn + (drawn >= i)
        return Graph.from_edges(n, np.repeat(np.arange(n), s), receivers)
