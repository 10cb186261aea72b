"""Compiled loops between numbers and masked words (see ``masking.py``)."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def quantize(numbers, scale, bound, words):  # type: ignore[no-untyped-def]  # pragma: no cover
    fits = True
    for c in range(numbers.size):
        v = np.rint(np.float64(numbers[c]) * scale)
        fits &= abs(v) <= bound
        words[c] = np.uint32(np.int64(v))
    return fits


@njit(cache=True, nogil=True)
def add_sum(numbers, own, words, step):  # type: ignore[no-untyped-def]  # pragma: no cover
    for c in range(numbers.size):
        s = np.float64(np.int32(words[c]))
        numbers[c] = own * np.float64(numbers[c]) + s * step
