"""What both kinds of channel have in common: the way from a stranger's bytes to frames that hold.

A channel is a state machine: bytes go in, frames and bytes to be written come out. It knows no
socket and no clock, so that it runs over TCP, through a relay, or in a test.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from hansa.engine.links.framing import (
    MAX_FRAME,
    MAX_HANDSHAKE,
    MAX_WORDS,
    PREAMBLE_BYTES,
    Buffer,
    Reassembly,
    Sort,
    check_preamble,
    header,
    preamble,
)
from hansa.engine.links.refusal import ChannelError, Refusal, refused
from hansa.engine.links.sealing import Sealing, derived


class Handshaking(ABC):
    """One end of a channel. A subclass says how two ends prove who they are.

    The dialler speaks first; the end that listens answers nobody who does not begin as hansa does.
    When the listener has believed the dialler it says so in a first sealed frame without a body,
    so that ``ready`` at either end means that both have accepted.

    Args:
        dials: this end speaks first.
        own: this end's fingerprint, for texts; empty where it has none.

    Attributes:
        peer: what the other end has proven; empty until then.
        ready: frames may be sealed.
        binding: 32 bytes that both ends share and no other session has.
    """

    kind: ClassVar[bytes]
    hides: ClassVar[bool]

    def __init__(self, dials: bool, own: str = "") -> None:
        self.dials, self.own = dials, own
        self.peer, self.ready, self.binding = "", False, b""
        self._start: bytearray | None = bytearray()  # of the other end's preamble
        self._heard = self._words = 0  # bytes and frames of the other end before it was believed
        self._reassembly = Reassembly()
        self._seals: Sealing | None = None
        self._opens: Sealing | None = None
        self._out: list[Buffer] = []
        self._error: ChannelError | None = None
        if dials:
            self._out.append(preamble(self.kind))
            self._begin()

    @abstractmethod
    def _begin(self) -> None:
        """Say the first word of the handshake, if it is this end's."""

    @abstractmethod
    def _handshake(self, body: memoryview) -> None:
        """Take the other end's next word; calls ``_proven`` when it was the last.

        Raises:
            ChannelError: the other end does not prove what it has to.
        """

    def _say(self, body: Buffer) -> None:
        """Write the next word of the handshake."""
        self._out += [header(Sort.HANDSHAKE, len(body)), body]

    def _proven(self, peer: str, binding: bytes, secret: bytes) -> None:
        """The other end is who it has to be.

        Args:
            secret: known to both ends of this session alone; the keys of frames come from it.
        """
        own, other = ("dialler", "listener") if self.dials else ("listener", "dialler")
        self._seals = Sealing(derived(secret, own, 32), self.hides)
        self._opens = Sealing(derived(secret, other, 32), self.hides)
        self.peer, self.binding = peer, binding
        if not self.dials:
            self._out += self._seals.seal(Sort.FRAME, [b""])
            self.ready = True

    def outgoing(self) -> bytes:
        """Bytes of the handshake to write now; after an error, what tells the other end why."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def seal(self, *parts: Buffer) -> list[Buffer]:
        """One frame, as buffers to write in this order; its body is the parts, joined.

        A single part may be among the buffers: it must not change before it is written.

        Raises:
            ValueError: the channel is not ready, or the parts are longer than ``MAX_FRAME``.
        """
        if not self.ready or self._seals is None:
            raise ValueError("a channel seals nothing before both ends have proven who they are")
        size = sum(memoryview(part).nbytes for part in parts)
        if size > MAX_FRAME:
            raise ValueError(f"a frame of {size} bytes; at most {MAX_FRAME} go into one")
        return self._seals.seal(Sort.FRAME, parts)

    def receive(self, data: Buffer) -> list[Buffer]:
        """Take what came; gives the frames that it completes, in order.

        Frames may be views into ``data`` where that is ``bytes``; anything else is copied.

        Raises:
            ChannelError: the other end is not who it has to be, or a frame does not hold. The
                channel is at an end; write ``outgoing`` and close.
        """
        if self._error is not None:
            raise ChannelError(self._error.problem, self._error.why)
        piece = memoryview(data if isinstance(data, bytes) else bytes(data))
        try:
            return self._received(piece)
        except ChannelError as error:
            self._end(error)
            raise

    def _received(self, piece: memoryview) -> list[Buffer]:
        if self._start is not None:
            taken = PREAMBLE_BYTES - len(self._start)
            self._start += piece[:taken]
            piece = piece[taken:]
            check_preamble(bytes(self._start), self.kind)
            if len(self._start) < PREAMBLE_BYTES:
                return []
            self._start = None
            if not self.dials:
                self._out.append(preamble(self.kind))
        frames: list[Buffer] = []
        for head, body in self._reassembly.frames(piece, self._admit):
            sort = Sort(head[0])
            if sort == Sort.REFUSE and not self.ready and len(body) == 1:
                raise refused(bytes(body), self.own)
            if self._opens is None:
                self._handshake(body)
                continue
            opened = self._opens.open(head, body)
            if sort == Sort.REFUSE:
                raise refused(bytes(opened), self.own)
            if self.ready:
                frames.append(opened)
            elif len(opened):
                raise ChannelError("did not say that it accepts this site", Refusal.PROOF)
            else:
                self.ready = True
        return frames

    def _admit(self, sort: int, length: int) -> None:
        """Whether a frame may come now, by what it is and how long: nothing of it is kept yet."""
        if self._opens is None:
            if sort == Sort.REFUSE and length == 1:
                return
            if sort != Sort.HANDSHAKE:
                raise ChannelError("sends what belongs to no handshake", Refusal.PROOF)
            self._heard += length
            self._words += 1
            if self._heard > MAX_HANDSHAKE or self._words > MAX_WORDS:
                problem = f"sends more than {MAX_HANDSHAKE} bytes or {MAX_WORDS} frames"
                raise ChannelError(f"{problem} before it has proven who it is", Refusal.PROOF)
            return
        size = length - self._opens.extra
        if sort == Sort.REFUSE and not self.ready and length == 1:
            return
        if sort not in (Sort.FRAME, Sort.REFUSE) or not 0 <= size <= MAX_FRAME:
            problem = f"announces a frame that cannot be (sort {sort}, {length} bytes)"
            raise ChannelError(problem, Refusal.FRAME)

    def _end(self, error: ChannelError) -> None:
        """Nothing more is taken or sealed; the other end is told why, if it was not its word."""
        self._error = ChannelError(error.problem, error.why)  # without what it was raised from
        if error.why is not None:
            code = bytes((error.why,))
            if not self.dials and self._start is not None:
                self._out.append(preamble(self.kind))
            if self._seals is not None:
                self._out += self._seals.seal(Sort.REFUSE, [code])
            else:
                self._out += [header(Sort.REFUSE, 1), code]
        self.ready = False
