"""Compiled sampling without secret-dependent branches (see ``draws.py``)."""

from __future__ import annotations

import numpy as np
from numba import njit

BLOCK = 256


@njit(cache=True, nogil=True)
def gaussian(words, thresholds, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The top bit of a word is the sign, the others are compared with every threshold.

    Thresholds are a multiple of four.
    """
    half = np.uint64(0x7FFFFFFFFFFFFFFF)
    sizes = np.empty(BLOCK, np.int64)
    for start in range(0, words.size, BLOCK):
        part = words[start : start + BLOCK]
        sizes[:] = 0
        for j in range(0, thresholds.size, 4):
            t0, t1, t2, t3 = thresholds[j], thresholds[j + 1], thresholds[j + 2], thresholds[j + 3]
            for i in range(part.size):
                word = part[i] & half
                sizes[i] += (
                    np.int64(word >= t0)
                    + np.int64(word >= t1)
                    + np.int64(word >= t2)
                    + np.int64(word >= t3)
                )
        for i in range(part.size):
            sign = np.int64(part[i] >> np.uint64(63))
            out[start + i] = np.int8((sizes[i] ^ -sign) + sign)


@njit(cache=True, nogil=True)
def confine(words, spare, primes):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Words [k, L, N] cut to the bits of their prime; what is no smaller than it is replaced.

    By the next of the spare words, until one is smaller. True: there were too few of them, and
    this has to be called again with others (what is in place stays).
    """
    used = 0
    for layer in range(words.shape[1]):
        prime = primes[layer]
        mask = prime
        for shift in (1, 2, 4, 8, 16, 32):
            mask |= mask >> np.uint64(shift)
        for k in range(words.shape[0]):
            row = words[k, layer]
            over = np.int64(0)
            for i in range(row.size):
                row[i] &= mask
                over += np.int64(row[i] >= prime)
            if over:
                for i in range(row.size):
                    while row[i] >= prime:
                        if used == spare.size:
                            return True
                        row[i] = spare[used] & mask
                        used += 1
    return False


@njit(cache=True, nogil=True)
def spread_around(words, bits):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Words [k, 2, n] become integers uniform in [-2^bits, 2^bits), two's complement."""
    none, one, full = np.uint64(0), np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)
    if bits < 63:
        low_mask, up_mask = (one << np.uint64(bits + 1)) - one, none
    else:
        low_mask, up_mask = full, (one << np.uint64(bits - 63)) - one
    low_less = one << np.uint64(bits) if bits < 64 else none
    up_less = one << np.uint64(bits - 64) if bits >= 64 else none
    for k in range(words.shape[0]):
        lows, ups = words[k, 0], words[k, 1]
        for i in range(lows.size):
            low, up = lows[i] & low_mask, ups[i] & up_mask
            lows[i] = low - low_less
            ups[i] = up - up_less - np.uint64(low < low_less)
