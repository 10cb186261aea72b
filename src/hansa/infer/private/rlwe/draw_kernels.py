"""Compiled sampling without secret-dependent branches (see ``draws.py``)."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def gaussian(words, thresholds, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The top bit of a word is the sign, the others are compared with every threshold."""
    one = np.uint64(1)
    half = np.uint64(0x7FFFFFFFFFFFFFFF)
    for i in range(words.size):
        word = words[i] & half
        size = np.int64(0)
        for j in range(thresholds.size):
            size += np.int64(word >= thresholds[j])
        sign = np.int64(words[i] >> np.uint64(63))
        out[i] = np.int8((size ^ -sign) + sign)
    return one
