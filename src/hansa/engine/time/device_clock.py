"""The one clock of devices: what a round costs on machines that differ, by a table of them.

Links store and forward: a node's messages go out together when it sends, in the time that all its
bytes take over its own link; a receiver waits until the last of those it needs is at its door and
then takes all their bytes over its own link. That is exact where one of the two sides is unlimited,
and otherwise no faster than real links, which overlap the two; see ``contention``. A message meets
the latency of its sender's end and then that of its receiver's.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

import numpy as np
from pydantic import Field, PrivateAttr

from hansa.base import many
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.engine.time.availability import Always, Availability
from hansa.engine.time.bandwidth import flow
from hansa.engine.time.battery import drain, fill, lasting
from hansa.engine.time.clock import Clock
from hansa.engine.time.fleet import Fleet
from hansa.engine.time.memo import remembered
from hansa.topology.graph import row_of_each

if TYPE_CHECKING:
    from hansa.engine.time.times import Times


Which: TypeAlias = "slice | np.ndarray"
"""Positions in a block: all of them, or int64 [k]."""


class DeviceClock(Clock):
    """Each client a device: compute, links, power, battery, and when it is there.

    The registered clocks of devices differ in their table alone (:meth:`deal`). With a share of a
    battery, a node that cannot pay for another round of training stops training and goes on
    synchronizing, whatever the algorithm.
    """

    availability: Availability = Field(Always(), description="when they are there")
    battery_share: float | None = Field(
        None, gt=0, le=1, description="part of a full battery that a node may use; none = no limit"
    )
    send_joules_per_byte: float = Field(
        0.0, ge=0, description="energy of sending a byte, J (SkipTrain neglects it)"
    )
    receive_joules_per_byte: float = Field(
        0.0, ge=0, description="energy of receiving a byte, J (SkipTrain neglects it)"
    )
    backhaul_bandwidth: float | None = Field(
        None,
        gt=0,
        description="bytes a second between two servers, such as an edge and its cloud, each pair "
        "for itself; none = no limit",
    )
    backhaul_latency: float | None = Field(
        None,
        ge=0,
        description="seconds that a message between two servers is on its way; none = as one of a "
        "server to a client",
    )
    contention: Literal["none", "fair", "greedy"] = Field(
        "none",
        description="how transfers share links: none = store and forward; fair = max-min; greedy = "
        "first come, first served (the last two in one block only)",
    )

    _slow: dict[int, float] = PrivateAttr(default_factory=dict)

    def slowed(self, factors: Mapping[int, float]) -> Self:
        clock = self.model_copy()
        clock.__pydantic_private__ = {"_slow": dict(factors)}
        return clock

    @abstractmethod
    def deal(self, streams: Streams, clients: int, parameters: int) -> Fleet:
        """The table of a run's clients; all it depends on are the settings and these.

        Args:
            parameters: of the run's model, trained and frozen.
        """

    def fleet(self, block: Times) -> Fleet:
        """The table of all nodes of a run."""
        clients, servers = block.clients, block.nodes - block.clients
        size = block.trainer.layout.passed
        return remembered(
            block.streams,
            (self, clients, servers, size),
            lambda: self._dealt(block.streams, clients, size).with_servers(servers),
        )

    def _dealt(self, streams: Streams, clients: int, parameters: int) -> Fleet:
        """The table, with those that are slowed down."""
        fleet = self.deal(streams, clients, parameters)
        if not self._slow:
            return fleet
        seconds = np.array(fleet.seconds)
        seconds[list(self._slow)] *= list(self._slow.values())
        return replace(fleet, seconds=seconds)

    def own(self, block: Times) -> Fleet:
        """The table of a block's own nodes."""
        known = block.tables.get("clock.fleet")
        if known is None or known[0] is not self or known[1] is not block.ids:
            known = self, block.ids, self.fleet(block).take(block.ids)
            block.tables["clock.fleet"] = known
        fleet: Fleet = known[2]
        return fleet

    def radio(self) -> tuple[float, float]:
        """Energy of sending and of receiving a byte, J."""
        return self.send_joules_per_byte, self.receive_joules_per_byte

    @property
    def always(self) -> bool:
        return isinstance(self.availability, Always)

    # -- before a run

    def check(self, nodes: int, parameters: int, samples: int | np.ndarray) -> None:
        """Batteries are refused only where no device lasts a round: some do run out."""
        within("availability", lambda: self.availability.check(nodes))
        if self.battery_share is not None:
            fleet = self.deal(Streams(0), nodes, parameters).whole()
            self.check_battery(self.battery_share, fleet, parameters, samples)

    def check_battery(
        self, share: float, fleet: Fleet, parameters: int, samples: int | np.ndarray
    ) -> None:
        """Refuse a share of a battery that no device can train with for a round.

        Raises:
            ConfigError: naming ``battery_share``.
        """
        shares = fleet.seconds * samples * fleet.watts / (fleet.battery_wh * 3600)
        if shares.min() > share:
            least = 1.01 * float(np.median(shares))
            fix = f"{least:.3g} is enough for half of the nodes"
            if least > 1:
                fix = "fewer local steps, smaller batches, or larger batteries"
            problem = "does not last one round of training on any device"
            raise ConfigError("battery_share", share, problem, fix)

    def check_place(self, whole: bool) -> None:
        if self.contention != "none" and not whole:
            raise ConfigError(
                "contention",
                self.contention,
                "needs all nodes in one block, to know all transfers",
                "contention: none, or runtime: simulate",
            )

    def start(self, block: Times) -> None:
        if self.battery_share is not None:
            fill(block, self._charge(block), self._round(block))

    # -- what a device is like

    def pace(self, block: Times, ids: np.ndarray) -> np.ndarray:
        if ids is block.ids:
            return np.asarray(self.own(block).seconds)
        pace: np.ndarray = self.fleet(block).seconds[ids]
        return pace

    def up_seconds(self, block: Times, ids: np.ndarray, nbytes: np.ndarray) -> np.ndarray:
        fleet = self.fleet(block).take(ids)
        seconds = nbytes / fleet.up + fleet.leaving  # a server's end takes none
        return np.where(ids < block.clients, seconds, 0.0)

    def down_seconds(self, block: Times, ids: np.ndarray, nbytes: np.ndarray) -> np.ndarray:
        fleet = self.fleet(block).take(ids)
        seconds = nbytes / fleet.down + (fleet.server_leaving + fleet.coming)
        return np.where(ids < block.clients, seconds, 0.0)

    def awake(self, block: Times) -> np.ndarray | None:
        """Who can pay for a round of training; those who no longer can are reported once."""
        return None if self.battery_share is None else lasting(block, self._round(block))

    def available(self, block: Times, ids: np.ndarray, time: float | np.ndarray) -> np.ndarray:
        return self._ask(self.availability.online, block, ids, time, 1.0, 0.0).astype(bool)

    def leaves(self, block: Times, ids: np.ndarray, time: float | np.ndarray) -> np.ndarray:
        return self._ask(self.availability.leaves, block, ids, time, np.inf)

    def returns(self, block: Times, ids: np.ndarray, time: float | np.ndarray) -> np.ndarray:
        return self._ask(self.availability.returns, block, ids, time, time)

    # -- what happens

    def compute(self, block: Times, samples: np.ndarray) -> None:
        some, fleet = self._some(block, samples)
        seconds = samples[some] * fleet.seconds
        for name in ("modelled_time", "compute_time"):
            _add(block, name, some, seconds)
        self._spend(block, "training_energy", some, seconds * fleet.watts)

    def finish(self, block: Times, samples: np.ndarray) -> np.ndarray:
        return block.state["modelled_time"].numpy() + samples * self.pace(block, block.ids)

    def send(self, block: Times, load: np.ndarray) -> np.ndarray:
        fleet = self.own(block).whole()
        self._leave(block, slice(None), fleet, load)
        return block.state["modelled_time"].numpy() + load / fleet.up + fleet.leaving

    def _leave(self, block: Times, who: Which, fleet: Fleet, load: np.ndarray) -> None:
        """Count what sending ``load`` [k] bytes takes those at ``who``, whose ``fleet`` it is."""
        self._radiate(block, who, load, 0)
        client = block.ids[who] < block.clients
        own = np.where((load > 0) & client, load / fleet.up + fleet.leaving, 0)
        _add(block, "transfer_time", who, own)

    def transfer(
        self, block: Times, senders: np.ndarray, receivers: np.ndarray, sizes: np.ndarray
    ) -> np.ndarray:
        """With contention, both links of a message and the other messages on them at once.

        Messages of an exchange contend with each other, not with those of other exchanges.
        """
        if self.contention == "none":
            if len(block) < many.MANY:
                return super().transfer(block, senders, receivers, sizes)
            who, which = np.unique(senders, return_inverse=True)
            fleet, load = self.own(block).take(who), np.bincount(which, weights=sizes)
            self._leave(block, who, fleet, load)
            there = block.state["modelled_time"].numpy()[who] + load / fleet.up + fleet.leaving
            return there[which]
        load = np.bincount(senders, weights=sizes, minlength=len(block))
        self._radiate(block, slice(None), load, 0)
        fleet, to = self.own(block).whole(), block.positions(receivers)
        start = block.state["modelled_time"].numpy()[senders]
        done = flow(senders, to, sizes, start, fleet.up, fleet.down, self.contention)
        busy = np.where(block.ids < block.clients, done.busy, 0)
        _add(block, "transfer_time", slice(None), busy)
        return done.finish + fleet.leaving[senders] + fleet.coming[to]

    def backhaul(
        self, block: Times, senders: np.ndarray, receivers: np.ndarray, sizes: np.ndarray
    ) -> np.ndarray:
        """Over a link of their own, where one is described."""
        between = (senders >= block.clients) & (receivers >= block.clients)
        seconds = np.zeros(len(sizes))
        if self.backhaul_bandwidth is not None:
            seconds += sizes / self.backhaul_bandwidth
        if self.backhaul_latency is not None:
            seconds += self.backhaul_latency - self.fleet(block).server_leaving
        return np.where(between, seconds, 0.0)

    def receive(
        self, block: Times, heard: np.ndarray, indptr: np.ndarray, arrivals: np.ndarray
    ) -> None:
        if self.contention == "none":
            self._take_in(block, heard, indptr, arrivals)
        else:
            super().receive(block, heard, indptr, arrivals)  # the way in is in the arrivals
        some, _ = self._some(block, heard)
        self._radiate(block, some, heard[some], 1)

    def _take_in(
        self, block: Times, heard: np.ndarray, indptr: np.ndarray, arrivals: np.ndarray
    ) -> None:
        """Wait for the last message at one's door, then take all bytes in."""
        time = block.state["modelled_time"].numpy()
        some, fleet = self._some(block, heard)
        before = time[some].copy()
        if len(time) < many.MANY:
            coming = fleet.coming
            coming = coming if len(coming) == 1 else np.repeat(coming, np.diff(indptr))
        else:
            coming = self.own(block).coming[row_of_each(indptr)]
        super().receive(block, heard, indptr, arrivals + coming)
        seconds = heard[some] / fleet.down
        own = np.minimum(time[some] - before, fleet.coming) + seconds
        time[some] += seconds
        _add(block, "transfer_time", some, own)

    # -- energy

    def _some(self, block: Times, load: np.ndarray) -> tuple[Which, Fleet]:
        """(positions of those to look at, the table of these): of very many those who have some of
        a ``load`` [n] alone."""
        own = self.own(block)
        if len(load) < many.MANY:
            return slice(None), own
        some = np.flatnonzero(load)
        return some, own.take(some)

    def _radiate(self, block: Times, who: Which, nbytes: np.ndarray, way: int) -> None:
        """Count the energy of bytes [k] that those at ``who`` sent (way 0) or received (1).

        Servers' is free.
        """
        each = self.radio()[way]
        if each:
            joules = np.where(block.ids[who] < block.clients, nbytes * each, 0.0)
            self._spend(block, "radio_energy", who, joules)

    def _spend(self, block: Times, kind: str, who: Which, joules: np.ndarray) -> None:
        """Count energy [k] of a kind, ``training_energy`` or ``radio_energy``, of those at ``who``;
        ``energy`` is both."""
        _add(block, kind, who, joules)
        both = [block.state[name].numpy()[who] for name in ("training_energy", "radio_energy")]
        block.state["energy"].numpy()[who] = both[0] + both[1]
        if self.battery_share is not None:
            drain(block, self._charge(block))

    def _charge(self, block: Times) -> np.ndarray:
        """What each node may use, J [n]; servers need no battery, so theirs is shown as 0."""
        return (self.battery_share or 0) * np.asarray(self.own(block).battery_wh) * 3600

    def _round(self, block: Times) -> np.ndarray:
        """Energy of a round of training, J [n]; servers need none."""
        fleet = self.own(block).whole()
        each = fleet.seconds * block.trainer.asked_examples(block.own_sizes) * fleet.watts
        return each if block.effort is None else each * block.effort

    def _ask(
        self,
        question: Callable[[Streams, int, np.ndarray, np.ndarray], np.ndarray],
        block: Times,
        ids: np.ndarray,
        time: float | np.ndarray,
        servers: float | np.ndarray,
        never: float = math.inf,
    ) -> np.ndarray:
        """The answers of clients, ``never`` where the time is infinite, and of ``servers``."""
        ids = np.asarray(ids)
        moments = np.broadcast_to(np.asarray(time, dtype=np.float64), ids.shape)
        answer = np.broadcast_to(np.asarray(servers, dtype=np.float64), ids.shape).copy()
        clients = ids < block.clients
        answer[clients] = never
        clients &= np.isfinite(moments)
        answer[clients] = question(block.streams, block.clients, ids[clients], moments[clients])
        return answer


def _add(block: Times, name: str, who: Which, values: np.ndarray) -> None:
    """Add to what is counted of those at ``who``."""
    block.state[name].numpy()[who] += values


def within(part: str, work: Callable[[], None]) -> None:
    """Run a part's check; its error names the field as the clock's settings do."""
    try:
        work()
    except ConfigError as error:
        raise error.under(part) from None
