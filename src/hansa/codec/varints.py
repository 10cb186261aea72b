"""Whole numbers in as few bytes as each needs, for many at a time.

Seven bits a byte, the lowest first, the eighth says that more follow (LEB128). Differences of
either sign are folded so that small ones are short: 0, -1, 1, -2 … become 0, 1, 2, 3 … Arithmetic
is that of 64 bits and wraps, so every int64 and uint64 has its difference.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from hansa.base.errors import WireError

LONGEST = 10  # bytes of a 64-bit number


@cache
def _steps() -> np.ndarray:
    return np.array([1 << (7 * j) for j in range(1, LONGEST)], dtype=np.uint64)


def folded(differences: np.ndarray) -> np.ndarray:
    """uint64 of int64 differences, small for those near 0."""
    return ((differences << 1) ^ (differences >> 63)).view(np.uint64)


def unfolded(values: np.ndarray) -> np.ndarray:
    """int64 differences, from :func:`folded`."""
    return (values >> np.uint64(1)).view(np.int64) ^ -(values & np.uint64(1)).view(np.int64)


def lengths(values: np.ndarray) -> np.ndarray:
    """Bytes that each of these uint64 takes, int64."""
    return np.searchsorted(_steps(), values, side="right") + 1


def write(out: np.ndarray, at: np.ndarray, values: np.ndarray) -> None:
    """Put each of ``values``, uint64, at its place ``at`` in the bytes ``out``."""
    last = lengths(values) - 1
    for j in range(int(last.max(initial=-1)) + 1):
        here = np.flatnonzero(last >= j)
        bits = (values[here] >> np.uint64(7 * j)).astype(np.uint8) & np.uint8(127)
        out[at[here] + j] = bits | ((last[here] > j).astype(np.uint8) << np.uint8(7))


def one(value: int) -> bytes:
    """A number's bytes."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def first(data: memoryview) -> tuple[int, int]:
    """(the number that some bytes begin with, how many bytes it takes).

    Raises:
        WireError: they begin with none, or one is longer than need be.
    """
    raw = np.frombuffer(data[:LONGEST], np.uint8)
    ends = np.flatnonzero(raw < 128)
    if not len(ends):
        raise WireError("bytes that end within a number")
    used = int(ends[0]) + 1
    return int(read(raw, np.zeros(1, np.int64), np.array([used]))[0]), used


def read(data: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The numbers whose bytes are ``begins:ends`` of ``data``, uint64.

    Raises:
        WireError: one is longer than need be, or over 64 bits.
    """
    values = np.zeros(len(begins), dtype=np.uint64)
    length = ends - begins
    if (length > LONGEST).any():
        raise WireError("a number of more than 64 bits")
    for j in range(int(length.max(initial=0))):
        here = np.flatnonzero(length > j)
        bits = data[begins[here] + j]
        if ((bits == 0) & (length[here] == j + 1) & (j > 0)).any():
            raise WireError("a number longer than it need be")
        if j == LONGEST - 1 and (bits > 1).any():
            raise WireError("a number of more than 64 bits")
        values[here] |= (bits & np.uint8(127)).astype(np.uint64) << np.uint64(7 * j)
    return values


class Stops:
    """Where the numbers of some bytes end, found once for all of them."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data
        self._stops = np.flatnonzero(data < 128)

    def skip(self, at: np.ndarray, counts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Where ``counts`` numbers from ``at`` on are over, int64, none past ``ends``.

        Raises:
            WireError: there are not so many.
        """
        last = np.searchsorted(self._stops, at) + counts - 1
        some = counts > 0
        if (last[some] >= len(self._stops)).any():
            raise WireError("a table that ends within its numbers")
        after = at.copy()
        after[some] = self._stops[last[some]] + 1
        if (after > ends).any():
            raise WireError("a table that ends within its numbers")
        return after

    def numbers(self, at: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """The numbers themselves, those of one place after those of the other, uint64."""
        first = np.searchsorted(self._stops, at)
        begin = np.cumsum(counts) - counts
        which = np.arange(int(counts.sum())) + np.repeat(first - begin, counts)
        ends = self._stops[which] + 1
        begins = np.empty_like(ends)
        begins[1:] = ends[:-1]
        begins[begin[counts > 0]] = at[counts > 0]
        return read(self.data, begins, ends)
