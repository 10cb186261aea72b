"""Compiled loops that count float32 numbers by the bits of their absolute values."""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True)
def count_high(bits, counts):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add to counts int64 [32768] by the upper half of bits uint32 without their sign."""
    for k in range(bits.size):
        counts[(bits[k] & 0x7FFFFFFF) >> 16] += 1


@njit(cache=True, nogil=True)
def count_low(bits, high, counts):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add to counts int64 [65536] by the lower half, of those whose upper half is ``high``."""
    for k in range(bits.size):
        if (bits[k] & 0x7FFFFFFF) >> 16 == high:
            counts[bits[k] & 0xFFFF] += 1
