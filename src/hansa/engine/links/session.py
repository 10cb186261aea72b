"""What two sites have told each other: every message once, in order and whole.

Messages in one direction are one stream of bytes. A chunk says at which byte of it it begins, an
acknowledgement up to which byte all is there and up to which the other may send (as QUIC counts,
RFC 9000, section 4). So connections may break anywhere and what comes twice is known as such:
after a reconnect the stream goes on at the byte up to which the other has it. Nothing here knows
of sockets or of time.

In the stream, a message is a head (its kind, how many parts, their lengths) and its parts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from hansa.base.errors import WireError
from hansa.engine.links.assembly import CONTROL, HEAD, LENGTH, MAX_PARTS, Assembly, Message
from hansa.engine.links.framing import Buffer
from hansa.engine.links.limits import MAX_CHUNK

_TOGETHER = 1 << 17  # bytes of small messages that share a chunk; a large one begins with its own
_LEAST, _ALWAYS = 32, 1 << 16
"""Of messages that are here and were not granted back, a window has room for one in every so many
bytes, and for so many in any case: heads cost their sender nothing, and this site memory."""
_MOST_BUFFERS = 64  # of a chunk; more of them are joined


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the stream.

    Attributes:
        offset: where it begins, bytes.
        buffers: its bytes.
        size: how many.
        data: how many of them are an algorithm's.
        control: how many are parts of messages between sites.
        again: it was written before, to a connection that broke.
    """

    offset: int
    buffers: list[memoryview]
    size: int
    data: int
    control: int
    again: bool


class Outgoing:
    """A message on its way out. Its parts must not change any more.

    Attributes:
        buffers: head and parts.
        size: bytes of all of them.
        start: its first byte's place in the stream; -1: not begun.
    """

    __slots__ = ("buffers", "kind", "size", "start")

    def __init__(self, kind: int, parts: Sequence[Buffer]) -> None:
        if not 1 <= len(parts) <= MAX_PARTS:
            raise ValueError(f"a message of {len(parts)} parts; 1 to {MAX_PARTS} are possible")
        views = [part if isinstance(part, memoryview) else memoryview(part) for part in parts]
        views = [
            view if view.format == "B" and view.ndim == 1 else view.cast("B") for view in views
        ]
        head = HEAD.pack(kind, len(views)) + b"".join([LENGTH.pack(view.nbytes) for view in views])
        self.kind, self.start = kind, -1
        self.buffers = [memoryview(head), *views]
        self.size = sum([view.nbytes for view in self.buffers])
        if self.size == len(head):
            raise ValueError("a message without a byte")


class Session:
    """Both directions between this start of this site and one start of another.

    Args:
        window: bytes that the other may send before any of them was granted back.
        chunk: bytes of a chunk at most.
        longest: bytes of a message at most.
    """

    def __init__(self, window: int, chunk: int, longest: int) -> None:
        self._chunk = chunk
        self._unsent: deque[Outgoing] = deque()  # the first of them may have been begun
        self._unacked: deque[Outgoing] = deque()  # handed out whole
        self._at = 0  # the next byte to hand out
        self._end = 0  # of the messages that were begun
        self._index, self._offset = 0, 0  # the same within the first unsent message
        self._written = 0  # up to where it was written to a connection, ever
        self.acked = 0
        self._allowed = 0  # up to where the other lets this site send
        self._window, self._granted = window, 0
        self._given, self._ends = 0, deque[int]()  # bytes of parts; where messages end in them
        self._assembly = Assembly(longest)

    # What goes out

    def push(self, message: Outgoing) -> None:
        """Put a message behind those that wait."""
        self._unsent.append(message)

    @property
    def pending(self) -> bool:
        """Whether a chunk can be handed out now."""
        return bool(self._unsent) and self._at < self._allowed

    @property
    def settled(self) -> bool:
        """Whether the other has all that was pushed."""
        return not self._unsent and not self._unacked

    @property
    def unfinished(self) -> int:
        """Bytes of messages that the other has not acknowledged whole."""
        return sum(m.size for m in self._unsent) + sum(m.size for m in self._unacked)

    def next(self, most: int = MAX_CHUNK) -> Chunk | None:
        """The next piece of the stream, if there is one that the other has room for.

        Args:
            most: bytes of it.
        """
        room = min(most, self._chunk, self._allowed - self._at)
        again = self._at < self._written
        if again:
            room = min(room, self._written - self._at)
        offset, taken = self._at, 0
        buffers: list[memoryview] = []
        counts = [0, 0]
        while self._unsent and taken < room:
            message = self._unsent[0]
            if taken and taken + message.size > _TOGETHER:
                break
            if message.start < 0:
                message.start, self._end = self._end, self._end + message.size
            while self._index < len(message.buffers):
                whole = message.buffers[self._index]
                if taken == room and whole.nbytes:
                    break
                piece = whole[self._offset : self._offset + room - taken]
                if piece.nbytes:
                    buffers.append(piece)
                    taken += piece.nbytes
                    if self._index:
                        counts[message.kind == CONTROL] += piece.nbytes
                self._offset += piece.nbytes
                if self._offset == whole.nbytes:
                    self._index, self._offset = self._index + 1, 0
            if self._index == len(message.buffers):
                self._unacked.append(self._unsent.popleft())
                self._index = self._offset = 0
        self._at += taken
        if len(buffers) > _MOST_BUFFERS:
            buffers = [memoryview(b"".join(buffers))]
        return Chunk(offset, buffers, taken, counts[0], counts[1], again) if taken else None

    def wrote(self, chunk: Chunk) -> None:
        """A chunk was written to a connection, whole."""
        self._written = max(self._written, chunk.offset + chunk.size)

    def heed(self, received: int, allowed: int) -> int:
        """Take an acknowledgement; returns the bytes of messages that are done with.

        Raises:
            WireError: of something that was never sent.
        """
        if received > self._at:
            raise WireError(f"has received {received} bytes of {self._at} that were sent")
        self.acked = max(self.acked, received)
        self._allowed = max(self._allowed, allowed)
        done = 0
        while self._unacked and self._unacked[0].start + self._unacked[0].size <= self.acked:
            done += self._unacked.popleft().size
        return done

    def resume(self, received: int, allowed: int) -> int:
        """Go on over a new connection at the byte up to which the other has all.

        Returns and raises as :meth:`heed`.
        """
        done = self.heed(received, allowed)
        while self._unacked:
            self._unsent.appendleft(self._unacked.pop())
        self._index = self._offset = 0
        self._at = self.acked
        if self._unsent and self._unsent[0].start >= 0:
            skip = self.acked - self._unsent[0].start
            while skip >= self._unsent[0].buffers[self._index].nbytes:
                skip -= self._unsent[0].buffers[self._index].nbytes
                self._index += 1
            self._offset = skip
        return done

    def forget(self) -> int:
        """Drop what waits and was not begun; returns its bytes."""
        kept = [message for message in self._unsent if message.start >= 0]
        gone = sum(message.size for message in self._unsent) - sum(m.size for m in kept)
        self._unsent = deque(kept)
        return gone

    # What comes in

    @property
    def received(self) -> int:
        """Up to which byte all has come."""
        return self._assembly.received

    @property
    def heads(self) -> int:
        """Bytes of the heads of all messages that came whole."""
        return self._assembly.heads

    @property
    def partial(self) -> int:
        """Bytes here of a message that has not come whole."""
        return self._assembly.have

    @property
    def allowed(self) -> int:
        """Up to which byte the other may send: what was granted, and a message that has begun."""
        return max(self._window + self._granted + self._assembly.heads, self._assembly.needs)

    def grant(self, nbytes: int) -> None:
        """The other may send so many bytes more."""
        self._granted += nbytes
        while self._ends and self._ends[0] <= self._granted:
            self._ends.popleft()

    def take(self, offset: int, piece: memoryview) -> list[Message]:
        """Take a chunk; returns the messages that it completes. What is there already is skipped.

        Raises:
            WireError: a gap, more than was allowed, too many messages, or none.
        """
        known = self.received - offset
        if known < 0:
            raise WireError(f"a chunk from byte {offset} on where {self.received} was due")
        if offset + piece.nbytes > self.allowed:
            raise WireError("sends more than it was allowed")
        messages = self._assembly.add(piece[known:]) if known < piece.nbytes else []
        for message in messages:
            self._given += message.size
            self._ends.append(self._given)
        if len(self._ends) > max(self._window // _LEAST, _ALWAYS):
            raise WireError(f"has {len(self._ends)} messages here that were not taken yet")
        return messages
