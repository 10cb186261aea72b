"""Churn: nodes leave, join late and come back.

Who is away follows from the settings, the seed and the round alone, so every node knows it without
being told. An absent node has no edges and does not train; it keeps its model and goes on from
there. Weights follow from the degrees that remain, so Metropolis-Hastings weights stay doubly
stochastic on each round's graph.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.streams import SHARED, Streams
from hansa.topology.graph import Graph
from hansa.topology.regular import Regular
from hansa.topology.timetable import Intervals, away_in, check_timetable
from hansa.topology.topology import Topology


@register("churn")
class Churn(Topology):
    """Another topology whose nodes leave and come back, by a timetable, at random, or both.

    ``absent: {3: [[10, 20]], 5: [[0, 8], [30, null]]}``: node 3 is away in rounds 10 to 19; node 5
    joins in round 8 and leaves for good before round 30 (rounds count from 0). With ``leave`` each
    node that is there leaves before a round with that probability, and each that is away returns
    with probability ``back``, independently: a two-state Markov chain that starts with everyone.
    """

    topology: Topology = Field(Regular(degree=4), description="who hears whom when all are there")
    absent: dict[int, Intervals] = Field(
        {}, description="for a node, the [from, until) rounds in which it is away; null = for good"
    )
    leave: float = Field(0.0, ge=0, le=1, description="probability to leave before a round")
    back: float = Field(0.5, ge=0, le=1, description="probability to come back before a round")

    @property
    def changing(self) -> bool:
        """The graph loses and regains nodes."""
        return True

    @property
    def absences(self) -> bool:
        """Nodes are away."""
        return True

    def check(self, nodes: int) -> None:
        """The timetable must name nodes that exist, and rounds in order."""
        super().check(nodes)
        try:
            self.topology.check(nodes)
        except ConfigError as error:
            raise error.under("topology.topology") from None  # its full name in a run file
        if not self.absent and not self.leave:
            raise ConfigError(
                "leave", self.leave, "and no node is absent: nobody ever leaves",
                "leave: 0.05, or a timetable under absent, or the inner topology alone",
            )  # fmt: skip
        check_timetable(self.absent, nodes)

    def remarks(self, nodes: int) -> list[str]:
        """Those of the inner topology."""
        return self.topology.remarks(nodes)

    def present(self, nodes: int, round: int, streams: Streams) -> np.ndarray:
        """Who is there: in the inner topology, by the timetable and by chance."""
        here = self.topology.present(nodes, round, streams)
        here &= markov_present(nodes, round, self.leave, self.back, streams)
        return here & ~away_in(self.absent, nodes, round)

    def graph(self, nodes: int, round: int, streams: Streams) -> Graph:
        """The inner topology's graph without the edges of those who are away."""
        graph = self.topology.inner_graph(nodes, round, streams)
        here = self.present(nodes, round, streams)
        return graph.keep(here[graph.receivers] & here[graph.indices])


def markov_present(
    nodes: int, round: int, leave: float, back: float, streams: Streams
) -> np.ndarray:
    """bool [nodes]: the state in a round of chains that all start present in round 0.

    One uniform number u a node and round drives both states at once: present stays present where
    u >= leave, absent stays absent where u < 1 - back. Wherever both lead to the same state the
    past is forgotten (coupling, as in Propp and Wilson, 1996), so a look back over some
    ln(n) / (leave + back) rounds is enough, however late the round.
    """
    if not leave:
        return np.ones(nodes, dtype=bool)
    result = np.ones(nodes, dtype=bool)
    undecided = np.ones(nodes, dtype=bool)
    flipped = np.zeros(nodes, dtype=bool)
    for t in range(round, 0, -1):
        u = streams.numpy("churn", SHARED, t).random(nodes)
        if_present, if_absent = u >= leave, u >= 1 - back
        decided = undecided & (if_present == if_absent)
        result[decided] = if_present[decided] ^ flipped[decided]
        undecided &= ~decided
        flipped ^= undecided & if_absent  # undecided and absent -> present: the two states swap
        if not undecided.any():
            return result
    result[undecided] = ~flipped[undecided]
    return result
