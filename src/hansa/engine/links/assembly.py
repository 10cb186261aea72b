"""Messages put together again from the pieces of a stream."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from hansa.base.errors import WireError

DATA, CONTROL = 0, 1
"""Kinds of messages: of algorithms, and between sites."""
HEAD = struct.Struct("<BH")
"""A message's kind and how many parts it has; then comes the length of each."""
LENGTH = struct.Struct("<Q")
MAX_PARTS = 4096
_SMALL = 1 << 14  # bytes of a piece that is rather copied than kept as a piece


class Message(NamedTuple):
    """What another site sent.

    Attributes:
        kind: ``DATA`` or ``CONTROL``.
        parts: as they were sent.
        size: bytes of the parts.
    """

    kind: int
    parts: list[bytes | memoryview]
    size: int


class Assembly:
    """Cuts a stream of messages into them again.

    It keeps the pieces of one unfinished message, and takes no memory for what is only announced.

    Args:
        longest: bytes of a message at most.

    Attributes:
        received: bytes of the stream so far.
        heads: bytes of them that were heads of messages that were given out.
        needs: up to which byte the message that has begun will go, as far as that is known.
        have: bytes of it that are here.
    """

    def __init__(self, longest: int) -> None:
        self.received = self.heads = self.needs = 0
        self._longest = longest
        self._pieces: list[Any] = []  # bytearrays of small ones, and views
        self.have = 0
        self._head: tuple[int, list[int]] | None = None  # of the message that has begun
        self._whole = 0  # its bytes, with the head

    def add(self, piece: memoryview) -> list[Message]:
        """Take the stream's next bytes; returns the messages that end in them.

        Raises:
            WireError: what comes is no message, or too long a one.
        """
        done: list[Message] = []
        self.received += piece.nbytes
        while piece.nbytes:
            if self._head is None:
                piece = self._begin(piece)
                if self._head is None:
                    break
            missing = self._whole - self.have
            if not self._pieces and piece.nbytes >= missing:
                done.append(self._direct(piece))
            else:
                self._keep(piece[:missing])
                if self.have < self._whole:
                    break
                done.append(self._joined())
            piece = piece[missing:]
        if self._head is not None:
            self.needs = self.received + self._whole - self.have
        return done

    def _begin(self, piece: memoryview) -> memoryview:
        """Read a message's head; what of it came before is joined with what comes now."""
        if self._pieces:
            piece = memoryview(self._pieces.pop() + piece)
            self.have = 0
        need = HEAD.size
        if piece.nbytes >= need:
            kind, count = HEAD.unpack_from(piece)
            if kind not in (DATA, CONTROL) or not 1 <= count <= MAX_PARTS:
                raise WireError(f"a message of kind {kind} and {count} parts")
            need += LENGTH.size * count
            if piece.nbytes >= need:
                lengths = list(struct.unpack_from(f"<{count}Q", piece, HEAD.size))
                if not any(lengths):  # it would cost its sender nothing, and this site memory
                    raise WireError("a message without a byte")
                if sum(lengths) > self._longest:
                    raise WireError(f"a message of {sum(lengths)} bytes; {self._longest} may come")
                self._head, self._whole = (kind, lengths), need + sum(lengths)
                return piece
        self._pieces, self.have = [bytearray(piece)], piece.nbytes
        self.needs = self.received + need - piece.nbytes
        return piece

    def _keep(self, piece: memoryview) -> None:
        last = self._pieces[-1] if self._pieces else None
        if isinstance(last, bytearray) and piece.nbytes < _SMALL:
            last += piece
        else:
            self._pieces.append(piece if piece.nbytes >= _SMALL else bytearray(piece))
        self.have += piece.nbytes

    def _direct(self, piece: memoryview) -> Message:
        """A message that lies whole in a piece: its parts are views into it, if it is most of it.

        A small message does not keep the bytes of others alive.
        """
        whole = piece[: self._whole]
        if 2 * whole.nbytes < memoryview(whole.obj).nbytes:
            whole = memoryview(bytes(whole))
        return self._cut([whole])

    def _joined(self) -> Message:
        pieces, self._pieces = self._pieces, []
        self.have = 0
        return self._cut([memoryview(piece) for piece in pieces])

    def _cut(self, pieces: list[memoryview]) -> Message:
        """The message whose bytes these pieces are."""
        assert self._head is not None
        kind, lengths = self._head
        head = self._whole - sum(lengths)
        self._head = None
        self.heads += head
        cutter = _Cutter(pieces)
        cutter.take(head)
        parts = [cutter.take(length) for length in lengths]
        return Message(kind, parts, sum(lengths))


class _Cutter:
    """Takes bytes off the front of pieces: a view where they lie in one piece, else a copy."""

    def __init__(self, pieces: list[memoryview]) -> None:
        self._pieces = pieces[::-1]

    def take(self, length: int) -> bytes | memoryview:
        taken: list[memoryview] = []
        while length:
            piece = self._pieces.pop()
            if piece.nbytes > length:
                self._pieces.append(piece[length:])
                piece = piece[:length]
            taken.append(piece)
            length -= piece.nbytes
        return taken[0] if len(taken) == 1 else b"".join(taken)
