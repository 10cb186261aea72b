"""Nothing goes over a connection before both ends have vouched; and again, now and then.

Producing evidence and judging it takes milliseconds, with some hardware seconds. One thread does
it for all connections of a site, one exchange's word after the other, while the loop goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from hansa.base.errors import WireError
from hansa.engine.links.speech import Say
from hansa.engine.links.vouching import Meeting, Voucher, VouchError, Vouching

if TYPE_CHECKING:
    from hansa.engine.links.connection import Connection
    from hansa.engine.links.keys import Key
    from hansa.engine.links.ticket import Peer

_MOST_WAITING = 4  # words of one exchange; the other end waits for answers
_MOST_HELD = 2  # frames: who has passed greets, and waits to be greeted
_BURST, _RATE = 20.0, 10.0  # exchanges that the other end may begin: at once, and a second


class Guard:
    """Exchanges over one connection, all on the loop's thread.

    Args:
        connection: over which.
        meeting: its two ends.
        vouching: what is asked of the other.
        work: has something done on another thread, and the end of it told on this one.

    Attributes:
        passed: both ends have accepted, so that other frames may come and go.
    """

    def __init__(
        self,
        connection: Connection,
        meeting: Meeting,
        vouching: Vouching,
        work: Callable[[Callable[[], list[bytes]], Callable[[Future[list[bytes]]], None]], None],
    ) -> None:
        self.passed = False
        self._connection, self._meeting, self._vouching = connection, meeting, vouching
        self._work = work
        self._voucher: Voucher | None = None
        self._words: list[bytes] = []  # of the other end, that wait
        self._held: list[memoryview] = []
        self._busy = False
        self._began = 0.0  # the exchange under way, s
        self._accepted = 0.0  # when the last one ended, s
        self._tokens, self._counted = _BURST, connection.keeper.now()

    @property
    def longest(self) -> int:
        """Bytes of a word at most."""
        return self._vouching.longest

    @property
    def seconds(self) -> float:
        """That an exchange may take."""
        return self._vouching.seconds

    def begin(self) -> None:
        """Begin an exchange, unless one is under way."""
        if self._voucher is None:
            self._voucher = self._vouching.between(self._meeting)
            self._began = self._connection.keeper.now()
            self._do(self._voucher.begin)

    def take(self, word: bytes) -> None:
        """Take a word of the other end.

        Raises:
            WireError: it says more than it may.
        """
        self._words.append(word)
        if len(self._words) > _MOST_WAITING:
            raise WireError("sends more evidence than it was asked for")
        self._next()

    def hold(self, frame: memoryview) -> None:
        """Keep a frame that came while the other end's last word is still being looked at.

        Who has not vouched, and says something else, is refused.
        """
        self._held.append(frame)
        if not self._busy or len(self._held) > _MOST_HELD:
            self._refuse()

    def _refuse(self) -> None:
        problem = "says something before it has shown evidence that is accepted"
        told = "it asks for evidence, and this site showed none: channel: attested at both"
        self._connection.unvouched(VouchError(problem, told))

    def look(self, now: float, stood: float) -> str:
        """Look after what is due; returns why the connection is to be ended, if it is.

        Args:
            stood: seconds for which this whole process stood still.
        """
        if self._voucher is not None:
            self._began += stood
            if now - self._began > self.seconds:
                return f"did not show its evidence in {self.seconds:g} s"
        elif self.passed and self._vouching.every and now - self._accepted > self._vouching.every:
            self.begin()
        return ""

    def _pay(self) -> bool:
        """Each exchange costs this site evidence: the other end begins so many, and no more."""
        now = self._connection.keeper.now()
        self._tokens = min(_BURST, self._tokens + (now - self._counted) * _RATE) - 1
        self._counted = now
        return self._tokens >= 0

    def _next(self) -> None:
        """Go on with the next word of the other end, which may begin another exchange."""
        if not self._words or self._busy:
            return
        if self._voucher is None:
            if self._pay():
                self.begin()
            else:
                self._connection.fail("asks for evidence again and again")
            return
        voucher, word = self._voucher, self._words.pop(0)
        self._do(lambda: voucher.heard(word))

    def _do(self, step: Callable[[], list[bytes]]) -> None:
        self._busy = True
        self._work(step, self._did)

    def _did(self, future: Future[list[bytes]]) -> None:
        """A step of the exchange is done."""
        self._busy = False
        connection, voucher = self._connection, self._voucher
        if connection.closed or voucher is None:
            return
        try:
            words = future.result()
        except VouchError as error:
            connection.unvouched(error)
            return
        for word in words:
            connection.put(bytes((Say.VOUCH,)) + word, "vouch")
        if voucher.over:
            self._voucher = None
            self._accepted = connection.keeper.now()
            if not self.passed:
                self.passed = True
                connection.keeper.ready(connection)
                held, self._held = self._held, []
                connection.take(held)
        self._next()
        if self._held and not self._busy:
            self._refuse()


class Guards:
    """The guards of a site's connections, and the thread that works for them.

    Args:
        vouching: what the site proves, and asks of others.
        loop: whose thread connections live on.
    """

    def __init__(self, vouching: Vouching, loop: asyncio.AbstractEventLoop) -> None:
        self.vouching, self._loop = vouching, loop
        self._thread = ThreadPoolExecutor(1, "hansa-evidence")

    def over(self, connection: Connection, own: Key, peers: Iterable[Peer]) -> None:
        """Put a guard over a connection whose channel is ready, and begin."""
        channel = connection.channel
        if connection.expected is None:  # its key says who it is
            connection.expected = next(p.site for p in peers if p.key == channel.peer)
        ends = own.fingerprint, channel.peer, connection.expected
        meeting = Meeting(*ends, channel.binding, connection.dialled)
        connection.guard = Guard(connection, meeting, self.vouching, self._work)
        connection.guard.begin()

    def _work(
        self, step: Callable[[], list[bytes]], then: Callable[[Future[list[bytes]]], None]
    ) -> None:
        def done(future: Future[list[bytes]]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(then, future)

        self._thread.submit(step).add_done_callback(done)

    def close(self) -> None:
        """Let the thread end; what it is doing may take until its time is up."""
        self._thread.shutdown(wait=False, cancel_futures=True)
