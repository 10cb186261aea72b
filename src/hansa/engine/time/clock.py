"""Modelled time and energy: what a run would have cost on devices and links that are not here.

The wall clock of a run is always recorded. A modelled clock is kept beside it, in simulated
seconds of each node, and is never mixed up with it. A node's round takes its compute time and
then waits for the slowest message that it needs; nodes wait for their neighbours only.

What a device is like (:meth:`Clock.pace`, :meth:`Clock.up_seconds`, :meth:`Clock.available` ...) is
a function of the settings, the run's seed and the node's id alone, so that any worker can ask about
any node of the run. Servers, the ids from ``block.clients`` on, do not train, have no limits on
their links to clients and no latency of their own, need no energy and have no hours.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import numpy as np

from hansa.base.component import Component, register
from hansa.base.errors import ConfigError

if TYPE_CHECKING:
    from hansa.engine.time.times import Times


class Clock(Component, kind="clock"):
    """Moves the nodes' modelled time, ``block.state["modelled_time"]`` in seconds, and energy."""

    @property
    def modelled(self) -> bool:
        """Whether there is a modelled time to report."""
        return True

    @property
    def always(self) -> bool:
        """Whether all nodes are known to be there at all times; no: ask of each."""
        return False

    def check(self, nodes: int, parameters: int, samples: int | np.ndarray) -> None:
        """Refuse settings that cannot work with this model and so many examples a round.

        Args:
            samples: of every client alike, or int64 [nodes].

        Raises:
            ConfigError: naming field, value and fix.
        """

    def slowed(self, factors: Mapping[int, float]) -> Self:
        """The same clock, by which the training of some nodes takes so many times as long.

        Raises:
            ConfigError: naming ``slow``: it knows of no devices.
        """
        problem = f"clock: {self.name} knows of no devices that could be slow"
        raise ConfigError("slow", dict(factors), problem, "clock: modelled, phones or devices")

    def start(self, block: Times) -> None:
        """Put the clock's own state into ``block.state`` before the first round."""

    def awake(self, block: Times) -> np.ndarray | None:
        """Which nodes have the energy to train in the coming round, bool [n]; None: all."""
        return None

    def check_place(self, whole: bool) -> None:
        """Refuse settings that cannot work unless the ``whole`` run is in one block.

        Raises:
            ConfigError: naming field, value and fix.
        """

    def pace(self, block: Times, ids: np.ndarray) -> np.ndarray:
        """Seconds of local training an example, float64 [k], of any nodes of the run."""
        return np.zeros(len(ids))

    def up_seconds(self, block: Times, ids: np.ndarray, nbytes: np.ndarray) -> np.ndarray:
        """Seconds [k] that ``nbytes`` [k] take over each node's own link, latency included."""
        return np.zeros(len(ids))

    def down_seconds(self, block: Times, ids: np.ndarray, nbytes: np.ndarray) -> np.ndarray:
        """As :meth:`up_seconds`, for what a node receives."""
        return np.zeros(len(ids))

    def available(self, block: Times, ids: np.ndarray, time: float | np.ndarray) -> np.ndarray:
        """Which nodes are there at a modelled time in seconds (one, or one each), bool [k]."""
        return np.ones(len(ids), dtype=bool)

    def leaves(self, block: Times, ids: np.ndarray, time: float | np.ndarray) -> np.ndarray:
        """When each node that is there at ``time`` next goes away, s [k]; inf: never."""
        return np.full(len(ids), np.inf)

    def returns(self, block: Times, ids: np.ndarray, time: float | np.ndarray) -> np.ndarray:
        """The first moment from ``time`` on at which each node is there, s [k]; inf: never."""
        return np.broadcast_to(np.asarray(time, dtype=np.float64), len(ids)).copy()

    @abstractmethod
    def compute(self, block: Times, samples: np.ndarray) -> None:
        """Let each node work on ``samples`` [n] training examples."""

    def finish(self, block: Times, samples: np.ndarray) -> np.ndarray:
        """The modelled time [n] at which each node would be done with ``samples`` [n] examples."""
        small = {name: value.clone() for name, value in block.state.items() if value.ndim == 1}
        trial = block.aside(small)
        self.compute(trial, samples)
        return small["modelled_time"].numpy()

    @abstractmethod
    def send(self, block: Times, load: np.ndarray) -> np.ndarray:
        """When all that each node sends now, ``load`` [n] bytes, has arrived: seconds [n]."""

    def transfer(
        self, block: Times, senders: np.ndarray, receivers: np.ndarray, sizes: np.ndarray
    ) -> np.ndarray:
        """When each message of an exchange arrives, s [messages]; for runs in one block.

        Where links do not interfere with each other this is :meth:`send`.

        Args:
            senders: positions in the block, int64 [messages].
            receivers: node ids, int64 [messages].
            sizes: bytes, int64 [messages].
        """
        load = np.bincount(senders, weights=sizes, minlength=len(block))
        return self.send(block, load)[senders]

    def backhaul(
        self, block: Times, senders: np.ndarray, receivers: np.ndarray, sizes: np.ndarray
    ) -> np.ndarray:
        """How much longer messages take that go from a server to a server, s [messages]; 0 for all
        others.

        Args:
            senders, receivers: node ids, int64 [messages].
            sizes: bytes, int64 [messages].
        """
        return np.zeros(len(sizes))

    def receive(
        self, block: Times, heard: np.ndarray, indptr: np.ndarray, arrivals: np.ndarray
    ) -> None:
        """Let each node wait for its messages, ``heard`` [n] bytes at ``arrivals`` [messages]."""
        waiting = np.flatnonzero(indptr[1:] != indptr[:-1])
        if len(waiting):
            latest = np.maximum.reduceat(arrivals, indptr[waiting])
            time = block.state["modelled_time"].numpy()
            time[waiting] = np.maximum(time[waiting], latest)


@register("wall")
class WallClock(Clock):
    """Real time only: nothing is modelled."""

    @property
    def modelled(self) -> bool:
        return False

    @property
    def always(self) -> bool:
        return True

    def compute(self, block: Times, samples: np.ndarray) -> None:
        """Nothing: the wall clock runs by itself."""

    def send(self, block: Times, load: np.ndarray) -> np.ndarray:
        return np.zeros(len(block.ids))
