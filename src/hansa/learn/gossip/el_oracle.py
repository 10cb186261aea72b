"""Epidemic Learning, oracle variant: a fresh random graph each round (de Vos et al., 2023)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.engine import Block, Network, WeightRule
from hansa.learn.gossip.dpsgd import DPSGD
from hansa.topology import Graph, Regular


@register("el_oracle", paper="de Vos et al.", year=2023, url="https://arxiv.org/abs/2310.01972")
class ELOracle(DPSGD):
    """Epidemic Learning with an oracle that hands out a random regular graph every round."""

    degree: int = Field(4, ge=1, description="nodes that each node hears in a round")
    uses_topology: ClassVar[bool] = False
    weights: WeightRule = Field("uniform", description="how much a node trusts each message")

    def check(self, network: Network) -> None:
        super().check(network)
        try:
            self._oracle.check(network.nodes)
        except ConfigError as error:
            raise ConfigError(
                error.field or "degree", self.degree, error.problem, error.fix
            ) from None

    @property
    def _oracle(self) -> Regular:
        return Regular(degree=self.degree, dynamic=True)

    def graph(self, block: Block, t: int) -> Graph:
        """Who hears whom: every worker draws the same graph."""
        return self._oracle.graph(block.nodes, t, block.streams)
