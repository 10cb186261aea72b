"""Frames in a stream of bytes: what each begins with, and their way back out of any pieces.

    8 bytes   ``HANSA``, the channel's version, its kind, a new line: once, from both ends
    frames    what it is (1 byte), length of the body (3 bytes, big end first), the body

A length is looked at before a byte of the body is kept.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import TypeAlias

from hansa.engine.links.refusal import ChannelError, Refusal

Buffer: TypeAlias = bytes | bytearray | memoryview
VERSION = b"1"
PREAMBLE_BYTES = 8
MAX_FRAME = (1 << 20) + 1024
"""Bytes of a frame's body that a link may hand over."""
MAX_HANDSHAKE = 1 << 16
"""Bytes that an end takes from one that has not proved yet who it is."""
MAX_WORDS = 8
"""Frames that a handshake may take of one end."""
HANDSHAKE_SECONDS = 5.0
"""How long a handshake may take from the first byte on."""
HEADER_BYTES = 4

Admit = Callable[[int, int], None]
"""Raises unless a frame of this sort and length may come now."""


class Sort(enum.IntEnum):
    """What a frame is."""

    HANDSHAKE = 1
    FRAME = 2
    REFUSE = 3


def preamble(kind: bytes) -> bytes:
    """What an end of this kind of channel begins with."""
    return b"HANSA" + VERSION + kind + b"\n"


def check_preamble(start: bytes, kind: bytes) -> None:
    """Hold the bytes that came first, up to all eight of them, against what they have to be.

    Raises:
        ChannelError: somebody else is there, or another version or kind.
    """
    own = preamble(kind)
    known = len(b"HANSA")
    if start[:known] != own[: min(len(start), known)]:
        problem = f"is no site of hansa: it begins with {start[:known]!r}; mend the address or port"
        raise ChannelError(problem, Refusal.STRANGE)
    if len(start) < PREAMBLE_BYTES or start == own:
        return
    if start[known : known + 1] != VERSION:
        problem = (
            f"speaks version {start[known : known + 1]!r} of the channel and this site "
            f"{VERSION!r}; install one version of hansa at both"
        )
        raise ChannelError(problem, Refusal.VERSION)
    means = "a run's secret, and this site by its key"
    if kind == b"s":
        means = "a key, and this site by its run's secret"
    raise ChannelError(f"proves itself by {means}; start both in the same way", Refusal.KIND)


def header(sort: Sort, length: int) -> bytes:
    """What stands before a frame's body."""
    return bytes((sort, *length.to_bytes(HEADER_BYTES - 1, "big")))


class Reassembly:
    """Cuts frames out of a stream that comes in any pieces.

    It keeps one unfinished frame at most. Frames that lie whole in a piece are views into it.
    """

    def __init__(self) -> None:
        self._header = bytearray()
        self._body: bytearray | None = None
        self._filled = 0

    def frames(self, piece: memoryview, admit: Admit) -> Iterator[tuple[bytes, memoryview]]:
        """Header and body of each frame that this piece completes.

        Args:
            piece: the stream's next bytes; they must not change as long as a frame is in use.
            admit: asked before a body is kept.
        """
        while True:
            if self._body is None:
                taken = HEADER_BYTES - len(self._header)
                self._header += piece[:taken]
                piece = piece[taken:]
                if len(self._header) < HEADER_BYTES:
                    return
                length = int.from_bytes(self._header[1:], "big")
                admit(self._header[0], length)
                if len(piece) >= length:
                    head, body, piece = bytes(self._header), piece[:length], piece[length:]
                    self._header.clear()
                    yield head, body
                    continue
                self._body, self._filled = bytearray(length), 0
            taken = min(len(self._body) - self._filled, len(piece))
            self._body[self._filled : self._filled + taken] = piece[:taken]
            self._filled += taken
            piece = piece[taken:]
            if self._filled < len(self._body):
                return
            head, body = bytes(self._header), memoryview(self._body)
            self._header.clear()
            self._body = None
            yield head, body
