"""What goes over a connection whose channel is ready: a byte that says what, and the rest.

Numbers are little end first. Nothing says what time it is.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from hansa.base.errors import WireError


class Say(IntEnum):
    """What a frame is."""

    HELLO = 1
    """Who is here: :class:`hansa.engine.links.hello.Hello`."""
    REFUSE = 2
    """Why it cannot be; then the connection is closed."""
    RESUME = 3
    """This connection carries the session from now on: its number, and how far it has come."""
    CHUNK = 4
    """A piece of the stream of messages: where it begins, and its bytes."""
    ACK = 5
    """Up to where the stream was received, and may be sent."""
    PING = 6
    """Facts; asks for a PONG."""
    PONG = 7
    """Facts."""
    BYE = 8
    """Why the connection ends: :class:`Bye`."""
    RELAY = 9
    """Bytes of a connection between two others: :mod:`hansa.engine.links.relay`."""
    VOUCH = 10
    """A word of what both ends prove beside their keys: :mod:`hansa.engine.links.vouching`."""


class Bye(IntEnum):
    """Why a connection ends."""

    OVER = 0
    """The site has ended."""
    IDLE = 1
    """It was not used; it is opened again when it is."""
    SECOND = 2
    """There is another of the two sites."""


_U64 = struct.Struct("<Q")
_PAIR = struct.Struct("<QQ")
_TRIPLE = struct.Struct("<QQQ")
CHUNK_BYTES = 1 + _U64.size


def resume(number: int, received: int, allowed: int) -> bytes:
    """A RESUME frame's body."""
    return bytes((Say.RESUME,)) + _TRIPLE.pack(number, received, allowed)


def read_resume(body: memoryview) -> tuple[int, int, int]:
    """(number, received, allowed) of a RESUME without its first byte.

    Raises:
        WireError: it is none.
    """
    return _TRIPLE.unpack(_sized(body, _TRIPLE))


def ack(received: int, allowed: int) -> bytes:
    """An ACK frame's body."""
    return bytes((Say.ACK,)) + _PAIR.pack(received, allowed)


def read_ack(body: memoryview) -> tuple[int, int]:
    """(received, allowed) of an ACK without its first byte.

    Raises:
        WireError: it is none.
    """
    return _PAIR.unpack(_sized(body, _PAIR))


def chunk(offset: int) -> bytes:
    """What stands before a CHUNK's bytes."""
    return bytes((Say.CHUNK,)) + _U64.pack(offset)


def read_chunk(body: memoryview) -> tuple[int, memoryview]:
    """(offset, bytes) of a CHUNK without its first byte.

    Raises:
        WireError: it is none.
    """
    if body.nbytes <= _U64.size:
        raise WireError("an empty chunk")
    return _U64.unpack_from(body)[0], body[_U64.size :]


def bye(why: Bye) -> bytes:
    """A BYE frame's body."""
    return bytes((Say.BYE, why))


def read_bye(body: memoryview) -> Bye:
    """Why, of a BYE without its first byte.

    Raises:
        WireError: it is none.
    """
    if body.nbytes != 1 or body[0] > max(Bye):
        raise WireError("an end for no known reason")
    return Bye(body[0])


def _sized(body: memoryview, form: struct.Struct) -> memoryview:
    if body.nbytes != form.size:
        raise WireError(f"{body.nbytes} bytes where {form.size} belong")
    return body
