"""Faults that a run file asks for: messages that get lost, nodes that are away, crash or are slow.

Whether a message is lost follows from the run's seed, its sender, its receiver and its exchange
alone, so both ends know it without being told, and a run is the same in every runtime and however
its nodes are split over workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
from pydantic import BeforeValidator, Field

from hansa.base.errors import ConfigError
from hansa.base.streams import SHARED, Streams
from hansa.engine.exchange.mishaps import Crash, Partition, Pause
from hansa.engine.exchange.terms import OnMissing
from hansa.engine.settings import Settings
from hansa.topology.timetable import Intervals, Timetable, check_timetable

if TYPE_CHECKING:
    from hansa.engine.exchange.recorded import Rewind
    from hansa.engine.exchange.wire import When


def _message(said: Any) -> Any:
    """What names a message, if it is as long as such a name is."""
    if isinstance(said, str) or not isinstance(said, Sequence) or not 3 <= len(said) <= 5:
        raise ValueError("is not [round, sender, receiver], with or without kind and exchange")
    return said


Lost: TypeAlias = Annotated[
    tuple[int, int, int] | tuple[int, int, int, str] | tuple[int, int, int, str, int],
    BeforeValidator(_message),
]
"""(round, sender, receiver), and of which kind, and in which exchange; all where they are not
said."""

_GOLDEN = 0x9E3779B97F4A7C15
_MIXES = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


class Faults(Settings):
    """What goes wrong in a run, on purpose."""

    loss: float = Field(
        0.0, ge=0, le=1, description="chance that a message between two nodes is lost"
    )
    lost: tuple[Lost, ...] = Field(
        (),
        description="messages that are lost: [round, sender, receiver], and if need be their kind "
        "and which exchange of the round; rounds count from 0",
    )
    absent: dict[int, Intervals] = Field(
        {}, description="for a node, the [from, until) rounds in which it is away; null = for good"
    )
    partition: tuple[Partition, ...] = Field(
        (), description="groups of nodes between which nothing passes for some rounds"
    )
    crash: tuple[Crash, ...] = Field(
        (), description="nodes that are away from a round on and come back without their last work"
    )
    slow: dict[int, Annotated[float, Field(gt=0)]] = Field(
        {}, description="for a node, how many times as long its training takes in modelled time"
    )
    pause: tuple[Pause, ...] = Field(
        (), description="nodes that stand still at the beginning of a round, in modelled time"
    )
    patience: float = Field(
        1.0,
        ge=0,
        description="modelled seconds that a node waits in vain for a message, or until it is "
        "sent again",
    )
    on_missing: OnMissing | None = Field(
        None,
        description="what becomes of a lost message: wait = it is sent again; self = the "
        "receiver's own numbers stand in for it; renormalise = the others' weights grow; skip = "
        "its receiver keeps its model; abort = the run ends; none = what the algorithm says",
    )

    @property
    def lossy(self) -> bool:
        """Whether messages are lost."""
        return self.loss > 0 or bool(self.lost) or bool(self.partition)

    @property
    def away(self) -> Timetable:
        """In which rounds nodes are away, by node: absent, or after a crash."""
        intervals: dict[int, list[tuple[int, int | None]]] = {
            node: list(when) for node, when in self.absent.items()
        }
        for crash in self.crash:
            for node in crash.nodes:
                intervals.setdefault(node, []).append(crash.interval)
        return {node: tuple(sorted(when)) for node, when in intervals.items()}

    @property
    def rewinds(self) -> tuple[Rewind, ...]:
        """Who comes back from a crash as what."""
        return tuple(one for crash in self.crash if (one := crash.rewind) is not None)

    def check(self, nodes: int, clients: int, hubs: Sequence[int] | None = None) -> None:
        """Refuse nodes that do not exist and rounds that there cannot be.

        Args:
            nodes: of the run, servers included.
            hubs: servers that may not be away; None: all of them.

        Raises:
            ConfigError: naming the field.
        """
        for k, (round, sender, receiver, *_) in enumerate(self.lost):
            there = 0 <= sender < nodes and 0 <= receiver < nodes
            if not (round >= 0 and there) or sender == receiver:
                raise ConfigError(
                    f"lost.{k}",
                    [round, sender, receiver],
                    "is no message of the run",
                    f"[round, sender, receiver]: a round from 0, two of the nodes 0..{nodes - 1}",
                )
        able = clients if hubs is None else nodes  # to be away
        check_timetable(self.absent, able)
        for k, partition in enumerate(self.partition):
            partition.check(f"partition.{k}", nodes)
        for k, crash in enumerate(self.crash):
            crash.check(f"crash.{k}", able)
        if self.crash:  # with absences: nobody crashes while being away
            check_timetable(self.away, able, "crash")
        for hub in sorted({*(hubs or ())} & {*self.away}):
            field = f"absent.{hub}" if hub in self.absent else "crash"
            problem = f"node {hub} is the server without which nobody can go on"
            raise ConfigError(field, None, problem, "another server, or clients")
        named = [("slow", node) for node in self.slow]
        named += [(f"pause.{k}", pause.node) for k, pause in enumerate(self.pause)]
        for field, node in named:
            limit = clients if field == "slow" else nodes
            if not 0 <= node < limit:
                fix = f"nodes are 0..{limit - 1}"
                raise ConfigError(field, node, "is no node of the run that it could be", fix)

    def late(self, rounds: int) -> int:
        """How many of the faults that are named begin after so many rounds."""
        absences = [pair[0] for intervals in self.absent.values() for pair in intervals]
        begin = [one[0] for one in self.lost] + [one.rounds[0] for one in self.partition]
        begin += [one.round for one in self.crash] + [one.round for one in self.pause]
        return sum(round >= rounds for round in absences + begin)

    def policy(self, said: OnMissing) -> OnMissing:
        """What becomes of a lost message of an exchange that ``said`` so.

        What an algorithm cannot do without is waited for, or ends the run.
        """
        if self.on_missing is None or said == "abort":
            return said
        return self.on_missing if said != "wait" or self.on_missing == "abort" else said

    def of(
        self, streams: Streams, when: When, kind: str, senders: np.ndarray, receivers: np.ndarray
    ) -> np.ndarray:
        """Which messages of an exchange are lost, bool [pairs].

        Args:
            streams: the run's.
            kind: of the messages.
            senders: node ids, int64 [pairs].
            receivers: node ids, int64 [pairs].
        """
        gone = np.zeros(len(senders), dtype=bool)
        if self.loss:
            key = streams.integer(f"loss {kind} {when.number}", SHARED, when.round)
            gone |= _uniform(key, senders, receivers) < self.loss
        for partition in self.partition:
            if partition.covers(when.round):
                gone |= partition.apart(senders, receivers)
        for round, sender, receiver, *which in self.lost:
            if round == when.round and which in ([], [kind], [kind, when.number]):
                gone |= (senders == sender) & (receivers == receiver)
        return gone


def _uniform(key: int, senders: np.ndarray, receivers: np.ndarray) -> np.ndarray:
    """A number in [0, 1) for each pair, float64 [pairs].

    The two ids go through the finalizer of SplitMix64 (Steele, Lea and Flood, 2014) one after the
    other, so that no stream has to be opened for each of a million pairs.
    """
    state = _mixed(np.uint64(key) + _GOLDEN * senders.astype(np.uint64))
    state = _mixed(state + _GOLDEN * (receivers.astype(np.uint64) + np.uint64(1)))
    return (state >> np.uint64(11)) * 2.0**-53


def _mixed(state: np.ndarray) -> np.ndarray:
    for shift, factor in _MIXES:
        state = (state ^ (state >> shift)) * factor
    return state ^ (state >> np.uint64(31))
