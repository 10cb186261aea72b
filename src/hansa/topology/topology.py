"""The kind of component that says who hears whom."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar
from weakref import WeakKeyDictionary

import numpy as np

from hansa.base.component import Component
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.topology.graph import Graph

_drawn: WeakKeyDictionary[Streams, dict[tuple[str, int], Graph]] = WeakKeyDictionary()


class Topology(Component, kind="topology"):
    """Who hears whom in each round.

    A topology is a pure function of its settings, the number of nodes, the round and the run's
    seed: every node can evaluate it alone and all agree.
    """

    least: ClassVar[int] = 2
    """The fewest nodes it can join."""

    @property
    def changing(self) -> bool:
        """Whether the graph may differ between rounds."""
        return False

    @property
    def absences(self) -> bool:
        """Whether nodes may be away in some round (see :meth:`present`)."""
        return False

    def present(self, nodes: int, round: int, streams: Streams) -> np.ndarray:
        """bool [nodes]: who takes part in a round; the others neither train nor have edges."""
        return np.ones(nodes, dtype=bool)

    def check(self, nodes: int) -> None:
        """Refuse settings that cannot work with this many nodes, before anything starts.

        Raises:
            ConfigError: its field is relative to the topology, and empty where the number of
                nodes itself is at fault.
        """
        if nodes < self.least:
            fix = "topology: complete" if nodes == 1 else f"{self.least} nodes or more"
            raise ConfigError("", type(self).name, f"cannot join {nodes} node(s)", fix)

    def remarks(self, nodes: int) -> list[str]:
        """What a person should know of how its settings were understood."""
        return []

    def inner_graph(self, nodes: int, round: int, streams: Streams) -> Graph:
        """:meth:`graph` for a topology around this one: drawn once a run if it never changes."""
        if self.changing:
            return self.graph(nodes, round, streams)
        kept = _drawn.setdefault(streams, {})
        key = (repr(self), nodes)
        if key not in kept:
            kept[key] = self.graph(nodes, round, streams)
        return kept[key]

    @abstractmethod
    def graph(self, nodes: int, round: int, streams: Streams) -> Graph:
        """The graph of a round (counted from 0)."""
