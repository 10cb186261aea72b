"""A socket that does not block, on an event loop: bytes out as they fit, bytes in as they come."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

from hansa.engine.links.framing import Buffer
from hansa.engine.links.outbox import Outbox, Then

_LEAST_READ, _MOST_READ = 1 << 16, 1 << 20  # bytes; more where more comes
_MOST_BUFFERS = 512  # that one system call takes
_DRAIN_SECONDS = 1.0
_MOST_DRAINED = 1 << 23  # bytes
_ROOM = 1 << 18  # bytes that may wait in a pipe before it asks for no more


class Receiver(Protocol):
    """Who hears what a pipe has to say."""

    def came(self, data: bytes) -> None:
        """The next bytes."""

    def went(self, nbytes: int) -> None:
        """So many bytes were written."""

    def free(self) -> None:
        """There is room again."""

    def broke(self, why: str) -> None:
        """It is over; why in a few words."""


class Pipe(Protocol):
    """Bytes in order both ways: a socket's, or a circuit's over a relay."""

    @property
    def partial(self) -> int:
        """Bytes that were written since the last ``then``."""

    @property
    def room(self) -> bool:
        """Whether more may be written."""

    def write(self, buffers: Sequence[Buffer], then: Then | None) -> None:
        """Put bytes behind those that wait; ``then`` is called when all of them are out."""

    def flush(self) -> None:
        """Write what fits."""

    def close(self, *, gently: bool = True) -> None:
        """End it; its receiver hears nothing more.

        Args:
            gently: what was flushed still arrives, as far as it can; else it may be lost.
        """


class SocketPipe:
    """A connected socket.

    Args:
        loop: whose thread all of this runs in.
        sock: not blocking; it is this pipe's from now on.
        receiver: who hears of it.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, receiver: Receiver
    ) -> None:
        self._loop, self._sock, self._receiver = loop, sock, receiver
        self._outbox = Outbox()
        self._read = _LEAST_READ
        self._watched = self._closed = False
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop.add_reader(sock, self._readable)

    @property
    def partial(self) -> int:
        return self._outbox.partial

    @property
    def room(self) -> bool:
        return not self._closed and self._outbox.pending < _ROOM

    def write(self, buffers: Sequence[Buffer], then: Then | None) -> None:
        self._outbox.put(buffers, then)

    def flush(self) -> None:
        waiting = self._outbox.waiting
        while waiting and not self._closed:
            try:
                sent = self._sock.sendmsg(list(islice(waiting, _MOST_BUFFERS)))
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._break(f"the connection broke ({error.strerror or error})")
                return
            self._outbox.take(sent)
            self._receiver.went(sent)
            self._outbox.out(sent)
        self._watch(bool(waiting) and not self._closed)

    def _watch(self, wanted: bool) -> None:
        if wanted != self._watched:
            self._watched = wanted
            if wanted:
                self._loop.add_writer(self._sock, self._writable)
            else:
                self._loop.remove_writer(self._sock)

    def _writable(self) -> None:
        self.flush()
        if not self._closed and self.room:
            self._receiver.free()

    def _readable(self) -> None:
        try:
            data = self._sock.recv(self._read)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._break(f"the connection broke ({error.strerror or error})")
            return
        if len(data) == self._read:
            self._read = min(2 * self._read, _MOST_READ)
        elif 4 * len(data) < self._read:
            self._read = max(self._read // 2, _LEAST_READ)
        if data:
            self._receiver.came(data)
        else:
            self._break("the other end closed the connection")

    def _break(self, why: str) -> None:
        if not self._closed:
            self.close()
            self._receiver.broke(why)

    def close(self, *, gently: bool = True) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock)
        self._watch(False)
        self._outbox.clear()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
            if gently:
                _Drain(self._loop, self._sock)
                return
        self._sock.close()


class _Drain:
    """Reads what still comes for a second and drops it.

    A socket that is closed with unread bytes resets the connection, and takes along what the other
    has not read: the reason why.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._loop, self._sock, self._left = loop, sock, _MOST_DRAINED
        loop.add_reader(sock, self._readable)
        self._timer = loop.call_later(_DRAIN_SECONDS, self._end)

    def _readable(self) -> None:
        try:
            read = len(self._sock.recv(_LEAST_READ))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            read = 0
        self._left -= read
        if not read or self._left < 0:
            self._timer.cancel()
            self._end()

    def _end(self) -> None:
        self._loop.remove_reader(self._sock)
        self._sock.close()
