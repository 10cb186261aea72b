"""Two sites that can only dial, and a third that both have dialled: it passes their bytes on.

A circuit is a connection of two sites through a third. What goes through it is their channel's,
so the relay sees what is sealed and nothing else. Each end may have so many bytes under way in a
circuit; the other gives them back as it takes them out, so a relay never holds more of a circuit.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import NamedTuple

from hansa.base.errors import WireError
from hansa.engine.links.connection import MOST_PASSING, Connection, Frame
from hansa.engine.links.framing import Buffer
from hansa.engine.links.outbox import Outbox, Then
from hansa.engine.links.pipe import Receiver
from hansa.engine.links.speech import Say

_HEAD = struct.Struct("<BQI")
_CREDIT = struct.Struct("<I")
PIECE = 1 << 17
"""Bytes of a connection that one frame through a relay carries at most."""
_WHY = 100  # bytes of what a CLOSE says
_OF_TWO = 4  # circuits of the same two sites: both may reach for the other, and anew


class Op(IntEnum):
    """What a frame through a relay is."""

    OPEN = 0
    """A site wants a circuit with another."""
    DATA = 1
    """Bytes of it."""
    CREDIT = 2
    """So many of them were taken out at the other end."""
    CLOSE = 3
    """It is over; why, in a few words of ASCII."""


_LENGTHS = {
    Op.OPEN: (0, 0),
    Op.DATA: (1, PIECE),
    Op.CREDIT: (_CREDIT.size, _CREDIT.size),
    Op.CLOSE: (0, _WHY),
}
"""Bytes that may follow: what nobody counts must not cost who passes it on."""


class Relayed(NamedTuple):
    """A frame through a relay.

    Attributes:
        op: what it is.
        circuit: number of the circuit; whoever opens it draws it.
        site: the other end: to whom it goes, or, on its way out of the relay, from whom it comes.
        body: the rest.
    """

    op: Op
    circuit: int
    site: int
    body: memoryview

    @classmethod
    def unpack(cls, frame: memoryview) -> Relayed:
        """From a RELAY frame without its first byte.

        Raises:
            WireError: it is none.
        """
        if frame.nbytes < _HEAD.size or frame[0] > max(Op):
            raise WireError("a frame for a relay that is none")
        op, circuit, site = _HEAD.unpack_from(frame)
        read = cls(Op(op), circuit, site, frame[_HEAD.size :])
        least, most = _LENGTHS[read.op]
        if not least <= read.body.nbytes <= most:
            raise WireError(f"{read.body.nbytes} bytes for a relay, which no {read.op.name} has")
        if read.op == Op.CREDIT and not read.credit:
            raise WireError("a credit of nothing")
        return read

    @property
    def credit(self) -> int:
        """Bytes that a CREDIT gives back."""
        return int(_CREDIT.unpack(self.body)[0])


def relayed(
    op: Op,
    circuit: int,
    site: int,
    body: Buffer = b"",
    inner: int = 0,
    then: Callable[[], None] | None = None,
) -> Frame:
    """A frame through a relay, or out of it.

    Args:
        inner: bytes of it that are counted as another connection's.
        then: is called when it is written.
    """
    head = bytes((Say.RELAY,)) + _HEAD.pack(op, circuit, site)
    size = len(head) + memoryview(body).nbytes
    return Frame((head, body), size, "relay", None, inner, then)


class Circuit:
    """One end of a circuit, as a pipe.

    Args:
        outer: the connection with the relay.
        number: the circuit's.
        site: who is at the other end.
        window: bytes that may be under way.
        ended: is called when it is closed at this end.
    """

    def __init__(
        self,
        outer: Connection,
        number: int,
        site: int,
        window: int,
        ended: Callable[[Circuit], None],
    ) -> None:
        self.outer, self.number, self.site = outer, number, site
        self.receiver: Receiver
        self._window = self._credit = window
        self._ended = ended
        self._outbox = Outbox()
        self._taken = 0  # bytes that came since the last credit
        self._closed = False

    @property
    def partial(self) -> int:
        return self._outbox.partial

    @property
    def room(self) -> bool:
        return not self._closed and self._outbox.pending < self._window // 2

    def write(self, buffers: Sequence[Buffer], then: Then | None) -> None:
        self._outbox.put(buffers, then)

    def flush(self) -> None:
        while self._outbox.waiting and self._credit and not self._closed:
            piece = self._outbox.take(min(PIECE, self._credit))
            body = piece[0] if len(piece) == 1 else memoryview(b"".join(piece))
            self._credit -= body.nbytes
            out = partial(self._out, body.nbytes)
            self.outer.post(relayed(Op.DATA, self.number, self.site, body, body.nbytes, out))

    def _out(self, nbytes: int) -> None:
        self.receiver.went(nbytes)
        self._outbox.out(nbytes)
        if self.room:
            self.receiver.free()

    def came(self, frame: Relayed) -> None:
        """A frame out of the relay.

        Raises:
            WireError: it cannot come now.
        """
        if self._closed:
            return
        if frame.op == Op.DATA:
            nbytes = frame.body.nbytes
            self._taken += nbytes
            self.receiver.came(bytes(frame.body))
            if self._taken >= self._window // 4 and not self._closed:
                credit, self._taken = _CREDIT.pack(self._taken), 0
                self.outer.post(relayed(Op.CREDIT, self.number, self.site, credit))
        elif frame.op == Op.CREDIT:
            self._credit += frame.credit
            if self._credit > self._window:
                raise WireError("gives back more than was sent")
            self.flush()
            if self.room:
                self.receiver.free()
        elif frame.op == Op.CLOSE:
            self.broke("the relay or the other end closed it")

    def broke(self, why: str) -> None:
        """The relay is no more there, or the circuit."""
        if not self._closed:
            self._closed = True
            self._ended(self)
            self.receiver.broke(why)

    def close(self, *, gently: bool = True) -> None:
        if not self._closed:
            if gently:
                self.flush()
            self._closed = True
            self._outbox.waiting.clear()
            self.outer.post(relayed(Op.CLOSE, self.number, self.site))
            self._ended(self)


@dataclass
class _Carried:
    """A circuit at the relay. ``under_way``: bytes by the end that they are from."""

    ends: tuple[int, int]
    under_way: dict[int, int]


class Relay:
    """What a relay keeps of the circuits that it carries.

    Args:
        line: gives the connection with a site that is in use, or None.
        window: bytes of one direction of a circuit.
        most: circuits at a time.
    """

    def __init__(self, line: Callable[[int], Connection | None], window: int, most: int) -> None:
        self._line, self._window, self._most = line, window, most
        self._circuits: dict[int, _Carried] = {}

    def take(self, site: int, frame: Relayed) -> None:
        """A frame from a site to another. What cannot be passed on closes the circuit."""
        carried = self._circuits.get(frame.circuit)
        if frame.op == Op.OPEN and carried is None and frame.site != site:
            ends = (site, frame.site)
            if not self._may_open(ends):
                self._say(site, Op.CLOSE, frame.circuit, frame.site)
                return
            self._circuits[frame.circuit] = _Carried(ends, dict.fromkeys(ends, 0))
        elif carried is None or {site, frame.site} != set(carried.ends):
            if frame.op != Op.CLOSE:
                self._say(site, Op.CLOSE, frame.circuit, frame.site)
            return
        elif frame.op == Op.DATA:
            carried.under_way[site] += frame.body.nbytes
            if carried.under_way[site] > self._window:
                self._end(frame.circuit)
                return
        elif frame.op == Op.CREDIT:
            carried.under_way[frame.site] -= frame.credit
            if carried.under_way[frame.site] < 0:
                self._end(frame.circuit)
                return
        elif frame.op == Op.OPEN:
            self._end(frame.circuit)
            return
        if frame.op == Op.CLOSE:
            del self._circuits[frame.circuit]
        elif self._choked(frame.site):
            self._end(frame.circuit)
            return
        self._say(frame.site, frame.op, frame.circuit, site, frame.body)

    def _may_open(self, ends: tuple[int, int]) -> bool:
        """Whether there may be another circuit of two sites: no site takes them all."""
        alike = sum(set(one.ends) == set(ends) for one in self._circuits.values())
        reached = self._line(ends[1]) is not None and not self._choked(ends[1])
        return reached and alike < _OF_TWO and len(self._circuits) < self._most

    def _choked(self, site: int) -> bool:
        """Whether too many frames wait for a site: not it shall suffer from who sends them."""
        line = self._line(site)
        return line is not None and line.passing > MOST_PASSING // 2

    def _say(self, to: int, op: Op, circuit: int, about: int, body: Buffer = b"") -> None:
        line = self._line(to)
        if line is not None:
            line.post(relayed(op, circuit, about, body))

    def _end(self, circuit: int) -> None:
        carried = self._circuits.pop(circuit)
        for end, other in (carried.ends, carried.ends[::-1]):
            self._say(end, Op.CLOSE, circuit, other)

    def lost(self, site: int) -> None:
        """The connection with a site is another, or none any more: its circuits are over."""
        for circuit in [c for c, carried in self._circuits.items() if site in carried.ends]:
            self._end(circuit)
