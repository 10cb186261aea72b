"""Two sites and a network between them in memory: bytes move when a test says so."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from hansa.base.errors import WireError
from hansa.engine.links.connection import Connection
from hansa.engine.links.hello import Hello
from hansa.engine.links.limits import LinkSettings
from hansa.engine.links.outbox import Outbox, Then
from hansa.engine.links.pair import Pair
from hansa.engine.links.session import Outgoing
from hansa.engine.links.speech import Say

LENGTH = struct.Struct("<I")


class Bare:
    """A channel that proves nothing and seals nothing."""

    peer, ready, binding = "anybody", True, b""

    def __init__(self) -> None:
        self._rest = b""

    def receive(self, data: bytes) -> list[bytes]:
        self._rest += data
        frames = []
        while len(self._rest) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._rest)
            if length > 1 << 21:
                raise WireError("too long a frame")
            if len(self._rest) < LENGTH.size + length:
                break
            frames.append(self._rest[LENGTH.size : LENGTH.size + length])
            self._rest = self._rest[LENGTH.size + length :]
        return frames

    def outgoing(self) -> bytes:
        return b""

    def seal(self, *parts: Any) -> list[Any]:
        return [LENGTH.pack(sum(memoryview(part).nbytes for part in parts)), *parts]


class MemoryPipe:
    """One end of a pipe: what is written waits until the test moves it."""

    def __init__(self, room: int = 1 << 12) -> None:
        self._outbox = Outbox()
        self.other: MemoryPipe
        self.receiver: Connection
        self.closed = self.ended = False
        self._room = room

    @property
    def partial(self) -> int:
        return self._outbox.partial

    @property
    def waiting(self) -> int:
        """Bytes that wait."""
        return sum(view.nbytes for view in self._outbox.waiting)

    def lose(self) -> None:
        """What waits never arrives."""
        self._outbox.waiting.clear()

    @property
    def room(self) -> bool:
        return not self.closed and self.waiting < self._room

    def write(self, buffers: Sequence[Any], then: Then | None) -> None:
        self._outbox.put(buffers, then)

    def flush(self) -> None:
        pass

    def close(self, *, gently: bool = True) -> None:
        self.closed = True
        if gently:
            self.move(self.waiting)
        self.lose()
        self.ended = gently

    def move(self, nbytes: int) -> None:
        """So many of the bytes that wait arrive at the other end; its end too, after the last."""
        data = b"".join(self._outbox.take(nbytes))
        if data:
            self.receiver.went(len(data))
            self._outbox.out(len(data))
            if not self.other.closed:
                self.other.receiver.came(data)
        if not self.closed:
            self.receiver.free()
        elif self.ended and not self.other.closed:
            self.other.broken()

    def broken(self) -> None:
        """This end notices that the connection is no more."""
        if not self.closed:
            self.closed = True
            self.receiver.broke("the test broke it")


class VirtualSite:
    """A keeper of connections with one other site, in a time that the test makes."""

    def __init__(self, number: int, world: VirtualWorld, incarnation: int = 0) -> None:
        self.number, self.world, self.incarnation = number, world, incarnation
        self.start = bytes((number, incarnation)) * 4
        self.done = 0
        self.pair = Pair(number, 1 - number, world.settings, self._count)
        self.got: list[bytes] = []
        self.ended: list[str] = []
        self.granting = True

    def _count(self, nbytes: int) -> None:
        self.done += nbytes

    def send(self, *parts: bytes, kind: int = 0) -> None:
        self.pair.session.push(Outgoing(kind, parts))
        if isinstance(self.pair.line, Connection):
            self.pair.line.pump()

    def now(self) -> float:
        return self.world.time

    def proven(self, connection: Connection) -> None:
        self.ready(connection)

    def ready(self, connection: Connection) -> None:
        if connection.dialled:
            connection.put(self._hello(), "hello")

    def _hello(self) -> bytes:
        hello = Hello(
            self.number, 1 - self.number, "run", self.incarnation, self.start, self.pair.seen
        )
        return bytes((Say.HELLO,)) + hello.pack()

    def greeted(self, connection: Connection, hello: Hello) -> None:
        reason = self.pair.objection(hello, self.now())
        if reason:
            connection.refuse(reason)
            return
        connection.pair = self.pair
        if not connection.dialled:
            connection.put(self._hello(), "hello")
        self.pair.greeted(connection, hello, self.now())

    def came(self, pair: Pair, messages: list[Any]) -> None:
        for message in messages:
            self.got.append(b"|".join(map(bytes, message.parts)))
            if self.granting:
                pair.session.grant(message.size)

    def relayed(self, connection: Connection, body: memoryview) -> int:
        raise WireError("no relay")

    def changed(self, connection: Connection) -> None:
        connection.pump()

    def over(self, connection: Connection, why: str) -> None:
        self.pair.lost(connection)
        self.ended.append(why)


class VirtualWorld:
    """Two sites, 0 and 1, and the connections between them."""

    def __init__(self, settings: LinkSettings) -> None:
        self.settings, self.time = settings, 1.0
        self.sites = [VirtualSite(0, self), VirtualSite(1, self)]
        self.pipes: list[tuple[MemoryPipe, MemoryPipe]] = []  # at 0 and at 1

    def dial(self, by: int) -> None:
        ends = (MemoryPipe(), MemoryPipe())
        made = []
        for site in self.sites:
            connection = Connection(site, Bare(), dialled=site.number == by, longest=1 << 16)
            ends[site.number].receiver = connection
            ends[site.number].other = ends[1 - site.number]
            made.append(connection)
        self.pipes.append(ends)
        for site in (by, 1 - by):
            made[site].over(ends[site])
        made[by]._begun = True
        self.sites[by].ready(made[by])

    def restart(self, number: int) -> None:
        old = self.sites[number]
        for ends in self.pipes:
            ends[number].closed = True
            ends[number].lose()
        self.sites[number] = VirtualSite(number, self, old.incarnation + 1)

    def heal(self) -> None:
        """Nothing breaks any more: everything arrives, and who has no link reaches for one."""
        for _ in range(1000):
            self.time += 1.0
            moved = 0
            for ends in list(self.pipes):
                for end in ends:
                    if end.waiting or end.ended:
                        moved += end.waiting + (end.ended and not end.other.closed)
                        end.move(end.waiting)
            for site in self.sites:
                site.pair.acknowledge(soon=False)
            moved += sum(end.waiting for ends in self.pipes for end in ends)
            if moved:
                continue
            for ends in self.pipes:  # what one end holds for alive and the other does not
                for end in ends:
                    if end.other.closed:
                        end.broken()
            if all(site.pair.flows for site in self.sites):
                if all(site.pair.session.settled for site in self.sites):
                    return
            elif not any(not end.closed for ends in self.pipes for end in ends):
                self.dial(0)
            else:  # connections that were never taken into use run out of time
                for ends in self.pipes:
                    for end in ends:
                        if end.receiver is not self.sites[ends.index(end)].pair.line:
                            end.receiver.fail("too late")
        raise AssertionError("the two never came to rest")
