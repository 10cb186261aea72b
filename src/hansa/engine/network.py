"""The graph of each round and its weights, remembered where they do not change."""

from __future__ import annotations

from typing import Literal

import numpy as np

from hansa.base.streams import Streams
from hansa.topology import Graph, MixingMatrix, Topology, given, metropolis_hastings, uniform
from hansa.topology.timetable import Timetable, away_in

WeightRule = Literal["metropolis_hastings", "uniform"]


class Network:
    """A topology among n nodes under a run's seed: every node can evaluate it alone.

    The last ``servers`` of the nodes have no data; the others are clients.

    Args:
        away: rounds in which nodes are away, whatever the topology says: they have no edges then.
    """

    def __init__(
        self,
        topology: Topology,
        nodes: int,
        streams: Streams,
        servers: int = 0,
        away: Timetable | None = None,
    ) -> None:
        self.topology, self.nodes, self.streams = topology, nodes, streams
        self.servers, self.clients = servers, nodes - servers
        self.away: Timetable = away or {}
        self._round: int | None = None
        self._graph: Graph | None = None
        self._present: tuple[int, np.ndarray] | None = None
        self._everybody = np.ones(nodes, dtype=bool)
        self._everybody.flags.writeable = False
        self._rule: str = ""
        self._weighted: Graph | None = None
        self._weights: MixingMatrix | None = None

    @property
    def changing(self) -> bool:
        """Whether the graph may differ between rounds."""
        return self.topology.changing or bool(self.away)

    @property
    def absences(self) -> bool:
        """Whether nodes may be away in some round."""
        return self.topology.absences or bool(self.away)

    def graph(self, round: int) -> Graph:
        """Who hears whom in a round."""
        if self._graph is None or (self.changing and self._round != round):
            self._graph, self._round = self._drawn(round), round
        return self._graph

    def present(self, round: int) -> np.ndarray:
        """bool [nodes]: who takes part in a round (see :class:`hansa.engine.Presence`)."""
        if not self.absences:
            return self._everybody
        if self._present is None or self._present[0] != round:
            here = self.topology.present(self.nodes, round, self.streams)
            self._present = (round, here & ~away_in(self.away, self.nodes, round))
        return self._present[1]

    def _drawn(self, round: int) -> Graph:
        if not self.away:
            return self.topology.graph(self.nodes, round, self.streams)
        graph, here = (
            self.topology.inner_graph(self.nodes, round, self.streams),
            self.present(round),
        )
        return graph.keep(here[graph.receivers] & here[graph.indices])

    def mixing(self, graph: Graph, rule: WeightRule) -> MixingMatrix:
        """The weights of a rule on a graph, or the graph's own where it has some."""
        if self._weights is None or self._weighted is not graph or self._rule != rule:
            make = metropolis_hastings if rule == "metropolis_hastings" else uniform
            make = make if graph.weights is None else given
            self._weights, self._weighted, self._rule = make(graph), graph, rule
        return self._weights


def nobody(nodes: int) -> Graph:
    """The graph without edges."""
    return Graph(np.zeros(nodes + 1, dtype=np.int64), np.zeros(0, dtype=np.int64))


def star_to(center: int, nodes: int) -> Graph:
    """The graph in which one node hears all the others."""
    others = np.delete(np.arange(nodes), center)
    return Graph.from_edges(nodes, others, np.full(nodes - 1, center))
