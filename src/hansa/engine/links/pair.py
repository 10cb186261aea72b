"""This site and one other: which connection between them counts, and what goes over it.

Both may dial, connections may break on one side and live on on the other, and either site may be
started anew. The lower-numbered site of the two decides which connection carries the session: it
says RESUME over it, with a number that grows, and the other follows the highest. What a start of a
site sent and was not acknowledged before the other was started anew is dropped, as the other that
it was meant for is no more.

Time comes from whoever calls; nothing here reads a clock, waits or opens anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from hansa.base.errors import WireError
from hansa.engine.links import speech
from hansa.engine.links.assembly import Message
from hansa.engine.links.hello import Hello
from hansa.engine.links.limits import LinkSettings
from hansa.engine.links.session import Chunk, Session
from hansa.engine.links.speech import Bye

_ACK_BYTES = 1 << 21  # received since the last acknowledgement that call for the next at once


class Line(Protocol):
    """A connection, as a pair sees it."""

    dialled: bool
    heard: float

    def put(self, body: bytes, cause: str) -> None:
        """Write a frame."""

    def end(self, body: bytes, why: str) -> None:
        """Write a frame and close; a later frame of this connection is not handed on."""


@dataclass(frozen=True)
class PeerState:
    """What a site knows of another at a moment.

    Attributes:
        site: its number.
        connected: a connection carries the session.
        ever: one ever did.
        incarnation: how many times the site was started before; -1: it was not heard yet.
        heard: when the last byte of it came, s of the monotonic clock; 0: never.
        facts: what it said last, by name.
        refused: why one refused the other, as one line; empty: nobody did since the last link.
        why: why there is no link, as one line; empty: there is one, or none was needed.
        gone: it said that it has ended.
    """

    site: int
    connected: bool = False
    ever: bool = False
    incarnation: int = -1
    heard: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""
    why: str = ""
    gone: bool = False


class Pair:
    """The state between this site and another.

    Args:
        own: this site's number.
        other: the other's.
        settings: limits.
        done: is told of bytes of messages that need not be kept any longer.

    Attributes:
        line: the connection that carries the session.
        flows: the other goes along, so that chunks may be sent over it.
        seen: number of the last connection that was in use.
    """

    def __init__(
        self, own: int, other: int, settings: LinkSettings, done: Callable[[int], None]
    ) -> None:
        self.other, self.decides, self._settings, self._done = other, own < other, settings, done
        self.session = self._fresh()
        self.line: Line | None = None
        self.flows = False
        self.ever = self.gone = False
        self.seen = 0
        self.incarnation, self.start = -1, b""
        self.facts: dict[str, Any] = {}
        self.refused = self.why = ""
        self.used = 0.0  # when a message last went or came, s
        self._since = 0.0  # when the line was taken
        self._told = (0, 0)  # the last acknowledgement
        self.heard = 0.0

    def _fresh(self) -> Session:
        settings = self._settings
        return Session(settings.ahead, settings.chunk, settings.message)

    # Who is there

    def objection(self, hello: Hello, now: float) -> str:
        """Why a greeting is refused, as one line; empty: it is not."""
        if hello.incarnation < self.incarnation:
            return (
                f"start {hello.incarnation} of site {self.other} comes after start "
                f"{self.incarnation} of it; end the older one"
            )
        twice = self.start and hello.start != self.start and hello.incarnation == self.incarnation
        if twice and self.line is not None and now - self.heard < self._settings.silence:
            return f"there is a site {self.other} already; give each its own number, or end one"
        return ""

    def greeted(self, line: Line, hello: Hello, now: float) -> None:
        """The other said who it is, and was believed; this site has said so too."""
        if hello.start != self.start:
            self._renew(hello)
        self.facts = dict(hello.facts)
        self.heard, self.gone = now, False
        if self.decides:
            self._decide(line, hello, now)

    def _renew(self, hello: Hello) -> None:
        """The other was started anew, or is here for the first time."""
        if self.line is not None:
            self._leave(self.line, "it was started anew")
        if self.start:
            self._done(self.session.unfinished)
            self.session = self._fresh()
            if not self.decides:
                self.seen = 0
        self.incarnation, self.start = hello.incarnation, hello.start

    def _decide(self, line: Line, hello: Hello, now: float) -> None:
        """Which of two connections it is. One that the other knew of when it reached for the new
        one is broken for it. Otherwise both reached for each other at once, and the first stays;
        unless the other should have gone along with it by now."""
        late = not self.flows and now - self._since > self._settings.handshake / 2
        if self.line is not None and hello.seen < self.seen and not late:
            line.end(speech.bye(Bye.SECOND), "")
            return
        self.seen += 1
        self._take(line, now)
        self._say_resume(line)

    def resumed(self, line: Line, body: memoryview, now: float) -> None:
        """The other said over which connection it goes on, and from where.

        Raises:
            WireError: that cannot be.
        """
        number, received, allowed = speech.read_resume(body)
        if self.decides:
            if line is not self.line or number != self.seen or self.flows:
                raise WireError("goes on over a connection that is not in use")
        elif number <= self.seen:
            line.end(speech.bye(Bye.SECOND), "")
            return
        else:
            self.seen = number
            self._take(line, now)
        self._done(self.session.resume(received, allowed))
        if not self.decides:
            self._say_resume(line)
        self.flows = self.ever = True
        self.refused = self.why = ""

    def _take(self, line: Line, now: float) -> None:
        if self.line is not None:
            self._leave(self.line, "")
        self.line, self.flows, self._since, self.used = line, False, now, now

    def _leave(self, line: Line, why: str) -> None:
        self.line, self.flows = None, False
        line.end(speech.bye(Bye.SECOND), why)

    def _say_resume(self, line: Line) -> None:
        self._told = (self.session.received, self.session.allowed)
        line.put(speech.resume(self.seen, *self._told), "hello")

    def lost(self, line: Line) -> bool:
        """A connection is no more; returns whether it was the one in use."""
        if line is not self.line:
            return False
        self.line, self.flows = None, False
        return True

    # What goes over it

    def chunk(self, line: Line, now: float, most: int) -> Chunk | None:
        """The next piece of the stream, of so many bytes at most, that may be written to this
        connection."""
        if line is not self.line or not self.flows:
            return None
        chunk = self.session.next(most)
        if chunk is not None:
            self.used = now
        return chunk

    def chunked(self, line: Line, body: memoryview, now: float) -> tuple[list[Message], int]:
        """A piece of the other's stream came: (messages that it completes, bytes that were new).

        Raises:
            WireError: it may not come here, or now.
        """
        if line is not self.line or not self.flows:
            raise WireError("sends over a connection that is not in use")
        offset, piece = speech.read_chunk(body)
        before = self.session.received
        messages = self.session.take(offset, piece)
        self.used = now
        return messages, self.session.received - before

    def acked(self, line: Line, body: memoryview) -> None:
        """The other acknowledged.

        Raises:
            WireError: what was not sent.
        """
        if line is self.line and self.flows:
            self._done(self.session.heed(*speech.read_ack(body)))

    def acknowledge(self, *, soon: bool) -> None:
        """Say how far the stream has come, if there is something to say.

        Args:
            soon: only if the other needs it before long.
        """
        if self.line is None or not self.flows:
            return
        received, allowed = self.session.received, self.session.allowed
        told_received, told_allowed = self._told
        due = received - told_received >= min(_ACK_BYTES, self._settings.ahead // 4) or (
            allowed > told_allowed
            and told_allowed - received < max(self._settings.chunk, self._settings.ahead // 2)
        )
        if (received, allowed) != self._told and (due or not soon):
            self._told = (received, allowed)
            self.line.put(speech.ack(received, allowed), "ack")

    @property
    def owes(self) -> bool:
        """Whether there is something that was not acknowledged yet."""
        return self.flows and (self.session.received, self.session.allowed) != self._told

    @property
    def resting(self) -> bool:
        """Whether nothing is under way either way."""
        return self.flows and self.session.settled and not self.session.partial and not self.owes

    def state(self) -> PeerState:
        """What is known of the other now."""
        return PeerState(
            self.other,
            self.flows,
            self.ever,
            self.incarnation,
            self.heard,
            dict(self.facts),
            self.refused,
            self.why,
            self.gone,
        )
