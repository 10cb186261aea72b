"""A message of an asynchronous script on its way, and what goes with it between workers."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from hansa.base.errors import WireError
from hansa.codec.messages import Messages

_TIMES = struct.Struct("<dd")


@dataclass(frozen=True)
class Letter:
    """A message on its way, or one that was not taken yet.

    Attributes:
        sender, receiver: nodes of the run.
        kind: as its sender named it.
        round: the sender's.
        sent: modelled time at which it was sent.
        arrival: modelled time at which it is at the receiver's door.
        size: bytes that count, header included; 0 for a word.
        elements: numbers of the decoded row.
        content: the message as it comes out of the codec, or its bytes, or nothing.
        note: float64 [m], what only modelled time and faults need, see ``Put``.
    """

    sender: int
    receiver: int
    kind: str
    round: int
    sent: float
    arrival: float
    size: int = 0
    elements: int = 0
    content: Messages | bytes | None = None
    note: tuple[float, ...] = ()


def pack_aside(sent: float, due: float, note: tuple[float, ...]) -> bytes:
    """What goes behind a payload between workers and is not counted."""
    body = _TIMES.pack(sent, due) + np.asarray(note, dtype="<f8").tobytes()
    return body + struct.pack("<I", len(body))


def unpack_aside(payload: bytes) -> tuple[bytes, float, float, tuple[float, ...]]:
    """(payload, sent, due, note) of what came.

    Raises:
        WireError: malformed.
    """
    end = len(payload) - 4
    length = struct.unpack_from("<I", payload, end)[0] if end >= 0 else 0
    if not _TIMES.size <= length <= end or (length - _TIMES.size) % 8:
        raise WireError("a message without its times")
    sent, due = _TIMES.unpack_from(payload, end - length)
    note = np.frombuffer(payload[end - length + _TIMES.size : end], dtype="<f8")
    if not np.isfinite(sent):
        raise WireError("a message that was sent at no time")
    return payload[: end - length], sent, due, tuple(note.tolist())
