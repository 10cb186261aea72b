"""Frames: a header of fixed size and a body, plain bytes both ways; nothing is ever unpickled.

Every length is held against a limit before memory is taken for it. The checksum finds accidents;
against people stands TLS around it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from hansa.base.errors import WireError
from hansa.base.lazy import msgpack

MAGIC = b"HPRI"
VERSION = 1
_FORMAT = struct.Struct(">4sHBx16siIII")
HEADER_BYTES = _FORMAT.size
NO_SESSION = bytes(16)
OPENING = -1
"""The query that stands for what is exchanged before the first: keys."""
LARGEST_FACTS = 1 << 20
"""Bytes of a body of facts at most: a greeting's, a refusal's."""
_DEEPEST = 8


class Kind(IntEnum):
    """What a frame is."""

    HELLO = 1
    """Client: begins a session, or goes on with one."""
    WELCOME = 2
    """Server: the session, and what is served."""
    REQUEST = 3
    """Client: a step of a query."""
    REPLY = 4
    """Server: the answer to it."""
    REFUSAL = 5
    """Server: a public code and a text."""
    GOODBYE = 6
    """Client: the session is over and may be forgotten. Server: it is."""


class WrongVersion(WireError):
    """A frame of another version of the protocol."""


class TooLarge(WireError):
    """A frame whose body is longer than may come."""


@dataclass(frozen=True)
class Frame:
    """One message.

    Attributes:
        session: 16 bytes; ``NO_SESSION`` before there is one.
        query: from 0; ``OPENING`` before the first.
        step: of the query, from 0.
    """

    kind: Kind
    session: bytes = NO_SESSION
    query: int = OPENING
    step: int = 0
    body: bytes = b""

    def encode(self) -> bytes:
        """The frame's bytes."""
        head = self._head(0)
        return self._head(zlib.crc32(self.body, zlib.crc32(head))) + self.body

    def _head(self, checksum: int) -> bytes:
        return _FORMAT.pack(
            MAGIC,
            VERSION,
            int(self.kind),
            self.session,
            self.query,
            self.step,
            len(self.body),
            checksum,
        )


@dataclass(frozen=True)
class Header:
    """What is known of a frame before its body is read.

    Attributes:
        size: bytes of the body.
        checksum: CRC-32 of the header with 0 in its own place, and of the body.
    """

    kind: Kind
    session: bytes
    query: int
    step: int
    size: int
    checksum: int

    def with_body(self, body: bytes) -> Frame:
        """The frame.

        Raises:
            WireError: the body is not what the header says.
        """
        frame = Frame(self.kind, self.session, self.query, self.step, body)
        if len(body) != self.size:
            raise WireError(f"body of {len(body)} bytes, announced were {self.size}")
        if zlib.crc32(body, zlib.crc32(frame._head(0))) != self.checksum:
            raise WireError("the frame does not match its checksum")
        return frame


def read_header(data: bytes | memoryview, limit: Callable[[Kind], int]) -> Header:
    """The header in these bytes.

    Args:
        limit: bytes of a body at most, by kind; 0 where none of the kind may come.

    Raises:
        WrongVersion: it is of another version.
        TooLarge: it announces a body that is too long.
        WireError: it is none.
    """
    if len(data) != HEADER_BYTES:
        raise WireError(f"header of {len(data)} bytes instead of {HEADER_BYTES}")
    magic, version, number, session, query, step, size, checksum = _FORMAT.unpack(data)
    if magic != MAGIC:
        raise WireError("this is no frame of hansa's private inference")
    if version != VERSION:
        raise WrongVersion(f"frame of version {version}; this is version {VERSION}")
    if data[7] != 0:
        raise WireError("the header's spare byte is set")
    try:
        kind = Kind(number)
    except ValueError:
        raise WireError(f"frame of unknown kind {number}") from None
    if query < OPENING:
        raise WireError(f"there is no query {query}")
    if size > (most := limit(kind)):
        raise TooLarge(f"body of {size} bytes where {most} are the limit")
    return Header(kind, session, query, step, size, checksum)


def decode(data: bytes, limit: Callable[[Kind], int]) -> Frame:
    """The frame that these bytes are, no more and no less.

    Raises:
        WireError: they are none.
    """
    return read_header(data[:HEADER_BYTES], limit).with_body(data[HEADER_BYTES:])


def pack_facts(facts: dict[str, Any]) -> bytes:
    """A body of plain data: texts, numbers, bytes, lists and tables of them."""
    return msgpack.packb(facts)


def unpack_facts(body: bytes, **kinds: type | tuple[type, ...]) -> dict[str, Any]:
    """The fields of a body of facts, all that are asked for; others are dropped.

    Args:
        kinds: of what type each field has to be.

    Raises:
        WireError: it holds something else.
    """
    limits = {name: len(body) for name in ("max_str_len", "max_bin_len", "max_array_len")}
    try:
        facts = msgpack.unpackb(
            body, raw=False, strict_map_key=True, max_map_len=256, max_ext_len=0, **limits
        )
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise WireError(f"the body holds no facts ({type(error).__name__})") from None
    if not isinstance(facts, dict) or _deep(facts):
        raise WireError("the body holds no facts")
    for name, kind in kinds.items():
        value = facts.get(name)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            raise WireError(f"the body's {name} is missing or of the wrong kind")
    return {name: facts[name] for name in kinds}


def _deep(value: Any) -> bool:
    """Whether tables and lists lie deeper in each other than any facts do."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for one in level
            if isinstance(one, (dict, list))
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return any(isinstance(one, (dict, list)) for one in level)
