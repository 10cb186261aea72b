"""Who is there, asked in one place: by round, by modelled time, and by what is in a battery.

Three things keep a node away, and an algorithm need not know which it was:

* by **round**, what the run file says (a topology of the kind ``churn``, a timetable of faults):
  everybody knows it. Such a node does nothing in the round and has no edges;
* by **time**, when its device is there (``clock.availability``): whoever knows the run's seed can
  compute it. Servers wait for those clients; rounds of peers do not look at it;
* by **charge**, a battery that does not last another round: its holder alone knows. Such a node
  sleeps: it does not train, and takes part in exchanges.

Servers, the ids from ``block.clients`` on, are there at any time and need no charge.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from hansa.engine.time.clock import Clock
    from hansa.engine.time.times import Times


class Rounds(Protocol):
    """What knows who is away by round; :class:`hansa.engine.Network` is one."""

    @property
    def absences(self) -> bool:
        """Whether nodes may be away in some round."""

    def present(self, round: int) -> np.ndarray:
        """bool [nodes]: who takes part in a round, counted from 0."""


class Presence:
    """Who is there in a run.

    Args:
        rounds: who is away by round.
        clock: says when devices are there and what is in their batteries; None: always, enough.
    """

    def __init__(self, rounds: Rounds, clock: Clock | None = None) -> None:
        self.rounds, self.clock = rounds, clock

    @property
    def absences(self) -> bool:
        """Whether nodes may be away in some round."""
        return self.rounds.absences

    def at(self, round: int) -> np.ndarray:
        """bool [nodes]: who takes part in a round (counted from 0)."""
        return self.rounds.present(round)

    def charged(self, block: Times) -> np.ndarray | None:
        """bool [n]: whose battery lasts the coming round; None: there are no batteries."""
        return None if self.clock is None else self.clock.awake(block)

    @property
    def timed(self) -> bool:
        """Whether presence has a modelled time."""
        return self.clock is not None and self.clock.modelled

    def available(self, block: Times, ids: np.ndarray, time: float | np.ndarray) -> np.ndarray:
        """Which nodes are there at a modelled time in s (one, or one each), bool [k]."""
        if self.clock is None or not self.clock.modelled:
            return np.ones(len(ids), dtype=bool)
        return self.clock.available(block, ids, time)

    def leaves(self, block: Times, ids: np.ndarray, time: float | np.ndarray) -> np.ndarray:
        """When each node that is there at ``time`` next goes away, s [k]; inf: never."""
        if self.clock is None or not self.clock.modelled:
            return np.full(len(ids), np.inf)
        return self.clock.leaves(block, ids, time)

    def stays(self, block: Times, ids: np.ndarray, time: float) -> np.ndarray:
        """For how many seconds nodes will be there, [k]; 0: is not, or leaves at that moment."""
        if self.clock is None or self.clock.always:
            return np.broadcast_to(np.inf, len(ids))
        there = self.available(block, ids, time)
        return np.where(there, self.leaves(block, ids, time) - time, 0.0)

    def next_return(self, block: Times, ids: np.ndarray, time: float) -> float:
        """The first moment after ``time`` at which one of these nodes is there, s; inf: never."""
        if self.clock is None or not self.clock.modelled or not len(ids):
            return math.inf
        return float(self.clock.returns(block, ids, np.nextafter(time, math.inf)).min())
