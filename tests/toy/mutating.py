"""Good bytes made bad: what fuzzers feed to readers of what others have written."""

from __future__ import annotations

import random
from collections.abc import Sequence

EDGES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff", b"\x00\x00\x00", b"\x01\x00\x00\x01")


def mutated(data: bytes, draws: random.Random, others: Sequence[bytes]) -> bytes:
    """``data`` with a few changes: bits, bytes, pieces cut, repeated, swapped in from others."""
    changed = bytearray(data)
    for _ in range(draws.choice((1, 1, 1, 2, 4, 16))):
        at = draws.randrange(len(changed) + 1)
        to = min(len(changed), at + draws.choice((1, 1, 2, 4, 16, 200)))
        match draws.randrange(7):
            case 0 if at < len(changed):
                changed[at] ^= 1 << draws.randrange(8)
            case 1 if at < len(changed):
                changed[at] = draws.randrange(256)
            case 2:
                del changed[at:to]
            case 3:
                changed[at:at] = changed[at:to]
            case 4:
                other = draws.choice(others)
                begin = draws.randrange(len(other) + 1)
                changed[at:to] = other[begin : begin + draws.choice((1, 4, 16, 200))]
            case 5:
                edge = draws.choice(EDGES)
                changed[at : at + len(edge)] = edge
            case _:
                del changed[at:]
    return bytes(changed)
