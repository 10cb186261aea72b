"""Modelled time and energy: what a run would have cost on devices and links that are not here.

The wall clock of a run is always recorded. A modelled clock is kept beside it, in simulated
seconds of each node, and is never mixed up with it. A node's round takes its compute time and
then waits for the slowest message that it needs; nodes wait for their neighbours only.

What a device is like (:meth:`Clock.pace`, :meth:`Clock.up_seconds`, :meth:`Clock.available` ...) is
a function of the settings, the run's seed and the node's id alone, so that any worker can ask about
any node of the run. Servers, the ids from ``block.clients`` on, do not train, have no limits on
their links and no latency of their own, need no energy and are always there.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from hansa.base.component import Component, register
from hansa.base.lazy import torch
from hansa.engine.time.memo import remembered

if TYPE_CHECKING:
    from hansa.engine.time.times import Times


class Clock(Component, kind="clock"):
    """Moves the nodes' modelled time, ``block.state["modelled_time"]`` in seconds, and energy."""

    @property
    def modelled(self) -> bool:
        """Whether there is a modelled time to report."""
        return True

    def check(self, nodes: int, parameters: int, samples: int | np.ndarray) -> None:
        """Refuse settings that cannot work with this model and so many examples a round.

        Args:
            samples: of every client alike, or int64 [nodes].

        Raises:
            ConfigError: naming field, value and fix.
        """

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

    def receive(
        self, block: Times, heard: np.ndarray, indptr: np.ndarray, arrivals: np.ndarray
    ) -> None:
        """Let each node wait for its messages, ``heard`` [n] bytes at ``arrivals`` [messages]."""
        waiting = np.flatnonzero(np.diff(indptr))
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

    def compute(self, block: Times, samples: np.ndarray) -> None:
        """Nothing: the wall clock runs by itself."""

    def send(self, block: Times, load: np.ndarray) -> np.ndarray:
        return np.zeros(len(block.ids))


class DeviceClock(Clock):
    """Devices that take time and power to train, on links of limited bandwidth.

    Links store and forward: a node's messages go out together when it sends, in the time that all
    its bytes take over its own link; a receiver waits until the last of those it needs is at its
    door and then takes all their bytes over its own link. That is exact where one of the two sides
    is unlimited, and otherwise no faster than real links, which overlap the two.
    """

    @abstractmethod
    def work(self, block: Times, ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Seconds of training an example and power meanwhile in W, of clients, [k] and [k].

        Without ``ids``: of the block's nodes.
        """

    @abstractmethod
    def links(self, block: Times, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Upload and download in bytes a second and latency in seconds, of clients, [k] each."""

    @abstractmethod
    def radio(self) -> tuple[float, float]:
        """Energy of sending and of receiving a byte, J."""

    def delays(self, block: Times) -> tuple[np.ndarray, np.ndarray]:
        """Latency that each message that a node sends and receives meets there, s [n] and [n]."""
        latency = self.reach(block, block.ids)[2]
        return latency, latency

    def labour(self, block: Times, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`work` for any nodes: servers take no time and no power."""
        pace, watts = np.zeros(len(ids)), np.zeros(len(ids))
        clients = np.asarray(ids) < block.clients
        pace[clients], watts[clients] = self.work(block, np.asarray(ids)[clients])
        return pace, watts

    def reach(self, block: Times, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As :meth:`links` for any nodes: servers have no limits and no latency."""
        up, down, latency = np.full(len(ids), np.inf), np.full(len(ids), np.inf), np.zeros(len(ids))
        clients = np.asarray(ids) < block.clients
        up[clients], down[clients], latency[clients] = self.links(block, np.asarray(ids)[clients])
        return up, down, latency

    def pace(self, block: Times, ids: np.ndarray) -> np.ndarray:
        return self.labour(block, ids)[0]

    def up_seconds(self, block: Times, ids: np.ndarray, nbytes: np.ndarray) -> np.ndarray:
        up, _, latency = self.reach(block, ids)
        return nbytes / up + latency

    def down_seconds(self, block: Times, ids: np.ndarray, nbytes: np.ndarray) -> np.ndarray:
        _, down, latency = self.reach(block, ids)
        return nbytes / down + latency

    def compute(self, block: Times, samples: np.ndarray) -> None:
        pace, watts = self.labour(block, block.ids)
        seconds = samples * pace
        block.state["modelled_time"] += torch.from_numpy(seconds)
        block.state["compute_time"] += torch.from_numpy(seconds)
        self.spend(block, "training_energy", seconds * watts)

    def finish(self, block: Times, samples: np.ndarray) -> np.ndarray:
        return block.state["modelled_time"].numpy() + samples * self.pace(block, block.ids)

    def send(self, block: Times, load: np.ndarray) -> np.ndarray:
        self._radiate(block, load, 0)
        seconds, delay = load / self.reach(block, block.ids)[0], self.delays(block)[0]
        own = np.where((load > 0) & (block.ids < block.clients), seconds + delay, 0)
        block.state["transfer_time"] += torch.from_numpy(own)
        return block.state["modelled_time"].numpy() + seconds + delay

    def receive(
        self, block: Times, heard: np.ndarray, indptr: np.ndarray, arrivals: np.ndarray
    ) -> None:
        delay = self.delays(block)[1]
        due = arrivals + np.repeat(delay, np.diff(indptr))
        before = block.state["modelled_time"].clone().numpy()
        super().receive(block, heard, indptr, due)
        time, seconds = (
            block.state["modelled_time"].numpy(),
            heard / self.reach(block, block.ids)[1],
        )
        own = np.minimum(time - before, delay) + seconds
        time += seconds
        block.state["transfer_time"] += torch.from_numpy(own)
        self._radiate(block, heard, 1)

    def spend(self, block: Times, kind: str, joules: np.ndarray) -> None:
        """Count energy of a kind, ``training_energy`` or ``radio_energy``; ``energy`` is both."""
        state = block.state
        state[kind] += torch.from_numpy(joules)
        torch.add(state["training_energy"], state["radio_energy"], out=state["energy"])

    def _radiate(self, block: Times, nbytes: np.ndarray, way: int) -> None:
        """Count the energy of bytes sent (way 0) or received (1); servers' is free."""
        joules = nbytes * self.radio()[way]
        self.spend(block, "radio_energy", np.where(block.ids < block.clients, joules, 0.0))


class FlatClock(DeviceClock):
    """Devices on links of one upload bandwidth, unlimited downloads, and one latency.

    The latency is that of the whole way, so a message meets it once, whoever sends it.
    """

    bandwidth: float = Field(
        12.5e6, gt=0, description="bytes a second that a node can send, shared by its receivers"
    )
    latency: float = Field(0.02, ge=0, description="seconds that a message is on its way")

    def links(self, block: Times, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        k = len(ids)
        return np.full(k, self.bandwidth), np.full(k, np.inf), np.full(k, self.latency)

    def delays(self, block: Times) -> tuple[np.ndarray, np.ndarray]:
        n = len(block)
        return np.full(n, self.latency), np.zeros(n)


@register("modelled")
class ModelledClock(FlatClock):
    """Devices of one make with a spread of speeds, on links of one bandwidth and latency."""

    sample_seconds: float = Field(
        1e-3, ge=0, description="seconds of local training an example, for the median node"
    )
    spread: float = Field(
        0.0, ge=0, description="sigma of the log-normal spread of the nodes' compute times"
    )
    compute_watts: float = Field(5.0, ge=0, description="power drawn while training, W")
    radio_joules_per_byte: float = Field(
        0.0, ge=0, description="energy of sending or receiving a byte, J"
    )

    def start(self, block: Times) -> None:
        """``pace``: how many times as slow as the median each node is."""
        block.state["pace"] = self._slowness(block, block.ids)

    def work(self, block: Times, ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        slowness = self._slowness(block, block.ids if ids is None else ids)
        return self.sample_seconds * slowness.numpy(), np.full(len(slowness), self.compute_watts)

    def _slowness(self, block: Times, ids: np.ndarray) -> torch.Tensor:
        drawn: dict[int, float] = remembered(block.streams, "device", dict)
        for i in ids.tolist():
            if i not in drawn:
                drawn[i] = block.streams.numpy("device", i).standard_normal()
        draws = torch.tensor([drawn[i] for i in ids.tolist()], dtype=torch.float64)
        return torch.exp(self.spread * draws)

    def radio(self) -> tuple[float, float]:
        return self.radio_joules_per_byte, self.radio_joules_per_byte
