"""A message of an asynchronous script on its way, and what goes with it between workers."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import WireError
from hansa.base.lazy import torch
from hansa.codec.messages import Messages

if TYPE_CHECKING:
    from torch import Tensor

_SENT = struct.Struct("<d")
_KIND = 16  # bytes


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
        encode: gives the bytes of content that is none.
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
    encode: Callable[[], bytes] | None = None


def pack_aside(sent: float, note: tuple[float, ...]) -> bytes:
    """What goes behind a payload between workers and is not counted: the same for all who hear it
    in one of them, so that it crosses once. When it is due stands in each one's header."""
    body = _SENT.pack(sent) + np.asarray(note, dtype="<f8").tobytes()
    return body + struct.pack("<I", len(body))


def unpack_aside(payload: bytes) -> tuple[bytes, float, tuple[float, ...]]:
    """(payload, sent, note) of what came.

    Raises:
        WireError: malformed.
    """
    end = len(payload) - 4
    length = struct.unpack_from("<I", payload, end)[0] if end >= 0 else 0
    if not _SENT.size <= length <= end or (length - _SENT.size) % 8:
        raise WireError("a message without its times")
    (sent,) = _SENT.unpack_from(payload, end - length)
    note = np.frombuffer(payload[end - length + _SENT.size : end], dtype="<f8")
    if not np.isfinite(sent):
        raise WireError("a message that was sent at no time")
    return payload[: end - length], sent, tuple(note.tolist())


def as_tensors(letters: list[Letter]) -> dict[str, Tensor]:
    """Letters in the form of a file's tensors; nothing where there are none."""
    if not letters:
        return {}
    bodies = [_body(letter) for letter in letters]
    facts = [
        [
            each.sender,
            each.receiver,
            each.round,
            each.size,
            each.elements,
            len(body),
            len(each.note),
        ]
        for each, body in zip(letters, bodies, strict=True)
    ]
    times = [[each.sent, each.arrival] for each in letters]
    kinds = b"".join(each.kind.encode().ljust(_KIND, b"\0") for each in letters)
    return {
        "facts": torch.tensor(facts, dtype=torch.int64),
        "times": torch.tensor(times, dtype=torch.float64),
        "kinds": _bytes(kinds).reshape(-1, _KIND),
        "notes": torch.tensor([x for each in letters for x in each.note], dtype=torch.float64),
        "bodies": _bytes(b"".join(bodies)),
    }


def from_tensors(tensors: dict[str, Tensor]) -> list[Letter]:
    """The letters that :func:`as_tensors` has put in this form.

    Raises:
        ValueError: it is not of this form.
    """
    if not tensors:
        return []
    names = ("facts", "times", "kinds", "notes", "bodies")
    if set(tensors) != set(names) or tensors["facts"].ndim != 2 or tensors["facts"].shape[1] != 7:
        raise ValueError("letters of another form")
    facts, times, kinds, notes = (tensors[name].numpy() for name in names[:4])
    whole = tensors["bodies"].numpy().tobytes()
    if facts[:, 5].sum() != len(whole) or facts[:, 6].sum() != len(notes) or (facts < 0).any():
        raise ValueError("letters that are cut short")
    letters, at, noted = [], 0, 0
    for row, (sent, arrival), kind in zip(facts.tolist(), times.tolist(), kinds, strict=True):
        sender, receiver, t, size, elements, length, count = row
        name = kind.tobytes().rstrip(b"\0").decode("ascii")
        body = whole[at : at + length] if size else None
        note = tuple(notes[noted : noted + count].tolist())
        letters.append(Letter(sender, receiver, name, t, sent, arrival, size, elements, body, note))
        at, noted = at + length, noted + count
    return letters


def _body(letter: Letter) -> bytes:
    if letter.encode is not None:
        return letter.encode()
    return letter.content if isinstance(letter.content, bytes) else b""


def _bytes(data: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy())
