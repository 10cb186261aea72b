"""D-PSGD: train alone, average with the neighbours (Lian et al., 2017).

Each round a node takes local steps, sends its whole model to its neighbours, and replaces it by
the weighted average of theirs and its own: x_i <- w_ii x_i + sum_j w_ij x_j, by default with
Metropolis-Hastings weights (Xiao and Boyd, 2004), or by what another ``aggregator`` makes of them.
As in DecentralizePy (Dhasade et al., 2023).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.codec import Codec, Dense, Messages
from hansa.codec.codec import check_codec
from hansa.engine import Algorithm, Block, Inbox, Network, Send, WeightRule
from hansa.engine.exchange.aggregating import aggregate_
from hansa.ensemble.aggregators import Mean, ModelAggregator
from hansa.topology import Graph


@register("dpsgd", paper="Lian et al.", year=2017, url="https://arxiv.org/abs/1705.09056")
class DPSGD(Algorithm):
    """Local steps, then a weighted average with the neighbours' whole models."""

    tolerates_loss: ClassVar[bool] = True
    weights: WeightRule = Field(
        "metropolis_hastings", description="how much a node trusts each neighbour"
    )
    aggregator: ModelAggregator = Field(
        Mean(),
        description="what a node makes of its neighbours' models and its own, by these weights",
    )
    codec: Codec = Field(Dense(), description="how a model becomes bytes")

    def check(self, network: Network) -> None:
        check_codec(self.codec, self.example())
        if self.uses_topology:
            # A directed graph may look mutual in one round, so a changing one is looked at longer.
            for t in range(8 if network.changing else 1):
                network.mixing(network.graph(t), self.weights)
            if not network.changing:
                self._check_enough(network.graph(0))

    def _check_enough(self, graph: Graph) -> None:
        """Every node hears as many as the aggregator needs, in a graph that stays.

        In one that changes, who hears too few in a round keeps its model.
        """
        rows, least = graph.in_degrees + 1, self.aggregator.least
        if (rows < least).any():
            node = int(np.argmin(rows))
            problem = f"needs {least} models, and node {node} has {rows[node]} with its own"
            fix = "more neighbours (topology.degree), or another aggregator"
            raise ConfigError("aggregator", self.aggregator.name, problem, fix)

    def example(self) -> Messages:
        """A small message of the form that is sent, to try the codec on."""
        return torch.zeros(1, 4)

    def graph(self, block: Block, t: int) -> Graph:
        """Who hears whom in round t."""
        return block.graph(t)

    def outgoing(self, block: Block, t: int) -> Send:
        return Send(block.rows, self.graph(block, t), self.codec)

    def incoming(self, block: Block, inbox: Inbox, t: int) -> None:
        weights = block.mixing(self.graph(block, t), self.weights)
        aggregate_(inbox, block.rows, weights, self.aggregator)
