"""Frames: what is on the wire between workers, and nothing is ever unpickled.

A message between nodes is a header of fixed size and a payload. The header is the same in every
runtime, so the simulator can count it without building it.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hansa.base.errors import WireError
from hansa.base.few import Few
from hansa.base.lazy import msgpack

MAGIC = b"HNSA"
VERSION = 1
MAX_PAYLOAD = 1 << 32  # bytes; longer frames are refused before they are read
MAX_TURN = (1 << 16) - 1
UNASKED = MAX_TURN
"""The number of messages that belong to no numbered exchange, of asynchronous algorithms."""
_FORMAT = struct.Struct("<4sB?HIIIIIQd16s")
_GUARD = struct.Struct("<I")  # CRC-32 of the header's other bytes
HEADER_BYTES = _FORMAT.size + _GUARD.size


Buffer = bytes | memoryview
Key = tuple[int, int]
"""(sender, receiver) of a message."""


class When(NamedTuple):
    """Which exchange of a run: one and the same for all who take part in it.

    Attributes:
        round: from 0.
        kind: of what; empty for those exchanges that every block takes part in.
        number: which of them in the round, from 0.
    """

    round: int
    kind: str
    number: int


@dataclass(frozen=True)
class Header:
    """What a receiver knows of a message before it opens it.

    Attributes:
        sender, receiver: nodes of the run.
        round: the sender's round, from 0.
        phase: which exchange of the round, from 0; or, if ``turned``, which of its kind.
        elements: numbers in the decoded row.
        size: bytes of the payload.
        checksum: CRC-32 of the payload.
        arrival: modelled time at which the message is there, seconds.
        kind: what it is, as the algorithm named it.
        turned: its exchange is counted by kind, as not every block takes part in it.
    """

    sender: int
    receiver: int
    round: int
    phase: int
    elements: int
    size: int
    checksum: int
    arrival: float
    kind: str
    turned: bool = False

    @property
    def when(self) -> When:
        """Which exchange it belongs to."""
        return When(self.round, self.kind if self.turned else "", self.phase)

    def pack(self) -> bytes:
        """The header's bytes."""
        fields = _FORMAT.pack(
            MAGIC,
            VERSION,
            self.turned,
            self.phase,
            self.sender,
            self.receiver,
            self.round,
            self.checksum,
            self.elements,
            self.size,
            self.arrival,
            self.kind.encode("ascii"),
        )
        return fields + _GUARD.pack(zlib.crc32(fields))

    @classmethod
    def unpack(cls, data: Buffer) -> Header:
        """The header in these bytes.

        Raises:
            WireError: not a header of this version, or it announces too long a payload.
        """
        if len(data) != HEADER_BYTES:
            raise WireError(f"header of {len(data)} bytes instead of {HEADER_BYTES}")
        magic, version, turned, phase, *rest = _FORMAT.unpack_from(data)
        sender, receiver, round, checksum, elements, size, arrival, kind = rest
        if magic != MAGIC:
            raise WireError("this is not a hansa frame")
        if version != VERSION:
            raise WireError(f"frame of version {version}; this is version {VERSION}")
        if _GUARD.unpack_from(data, _FORMAT.size) != (zlib.crc32(data[: _FORMAT.size]),):
            raise WireError("the header does not match its checksum")
        if size > MAX_PAYLOAD:
            raise WireError(f"payload of {size} bytes is over the limit of {MAX_PAYLOAD}")
        if not math.isfinite(arrival):
            raise WireError(f"a message that arrives at {arrival} s")
        try:
            name = kind.rstrip(b"\0").decode("ascii")
        except UnicodeDecodeError as error:
            raise WireError("the kind of the message is not ASCII") from error
        return cls(sender, receiver, round, phase, elements, size, checksum, arrival, name, turned)

    def verify(self, payload: Buffer) -> None:
        """Check the payload against the header.

        Raises:
            WireError: wrong length or checksum.
        """
        if len(payload) != self.size:
            raise WireError(f"payload of {len(payload)} bytes, announced were {self.size}")
        if checksum(payload) != self.checksum:
            raise WireError("the payload does not match its checksum")


def checksum(payload: Buffer) -> int:
    """CRC-32 of a payload."""
    return zlib.crc32(payload)


def frame(
    when: When,
    sender: int,
    receiver: int,
    kind: str,
    payload: bytes | memoryview,
    elements: int = 0,
    arrival: float = 0.0,
    digest: int | None = None,
) -> Header:
    """The header of a payload in an exchange.

    Args:
        elements: numbers in the decoded row.
        arrival: modelled time at which it is there, s.
        digest: the payload's checksum, where it is known.
    """
    return Header(
        sender=sender,
        receiver=receiver,
        round=when.round,
        phase=when.number,
        elements=elements,
        size=len(payload),
        checksum=checksum(payload) if digest is None else digest,
        arrival=arrival,
        kind=kind,
        turned=bool(when.kind),
    )


def pack_control(kind: str, **fields: Any) -> bytes:
    """A control message between worker and coordinator: plain data and NumPy arrays."""
    return msgpack.packb({"kind": kind, **fields}, default=_array_out)


def unpack_control(data: Buffer) -> dict[str, Any]:
    """The fields of a control message.

    Raises:
        WireError: malformed.
    """
    try:
        message = msgpack.unpackb(data, ext_hook=_array_in, strict_map_key=False)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise WireError(f"malformed control message: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise WireError("a control message without a kind")
    return message


_ARRAY = 1
_DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")


def _array_out(value: Any) -> Any:
    if isinstance(value, Few):
        value = np.asarray(value)
    if isinstance(value, np.ndarray) and value.dtype.name in _DTYPES:
        head = msgpack.packb([value.dtype.name, list(value.shape)])
        return msgpack.ExtType(_ARRAY, head + np.ascontiguousarray(value).tobytes())
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} does not travel in a control message")


def _array_in(code: int, data: bytes) -> Any:
    if code != _ARRAY:
        raise WireError(f"unknown extension {code} in a control message")
    unpacker = msgpack.Unpacker(max_buffer_size=len(data))
    unpacker.feed(data)
    dtype, shape = unpacker.unpack()
    if dtype not in _DTYPES or any(type(s) is not int or s < 0 for s in shape):
        raise WireError("malformed array in a control message")
    body = data[unpacker.tell() :]
    expected = math.prod(shape) * np.dtype(dtype).itemsize
    if len(body) != expected:
        raise WireError(f"array of {len(body)} bytes, announced were {expected}")
    return np.frombuffer(body, dtype=dtype).reshape(shape).copy()
