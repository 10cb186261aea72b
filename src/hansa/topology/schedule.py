"""Topologies in turn."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.topology.graph import Graph
from hansa.topology.topology import Topology


@register("schedule")
class Schedule(Topology):
    """Several topologies in turn, over and over."""

    least = 1
    graphs: tuple[Topology, ...] = Field(min_length=1, description="the topologies, in order")
    every: int = Field(1, ge=1, description="rounds that each of them stays")

    @property
    def changing(self) -> bool:
        """Whether there is more than one, or one that itself changes."""
        return len(self.graphs) > 1 or self.graphs[0].changing

    @property
    def absences(self) -> bool:
        """Whether nodes may be away in one of them."""
        return any(topology.absences for topology in self.graphs)

    def check(self, nodes: int) -> None:
        """Each topology must work with this many nodes."""
        super().check(nodes)
        for k, topology in enumerate(self.graphs):
            try:
                topology.check(nodes)
            except ConfigError as error:
                raise error.under(f"graphs.{k}") from None

    def remarks(self, nodes: int) -> list[str]:
        """Those of all."""
        return [remark for topology in self.graphs for remark in topology.remarks(nodes)]

    def graph(self, nodes: int, round: int, streams: Streams) -> Graph:
        """The graph of the topology whose turn it is; each has random streams of its own."""
        topology, own = self._turn(round, streams)
        return topology.graph(nodes, round, own)

    def present(self, nodes: int, round: int, streams: Streams) -> np.ndarray:
        """Who takes part, by the topology whose turn it is."""
        topology, own = self._turn(round, streams)
        return topology.present(nodes, round, own)

    def _turn(self, round: int, streams: Streams) -> tuple[Topology, Streams]:
        turn = round // self.every % len(self.graphs)
        return self.graphs[turn], Streams(streams.integer(f"topology {turn}"))
