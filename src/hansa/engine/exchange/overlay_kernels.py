"""Compiled loops over the numbers of partial messages (see ``overlay.py``)."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def overlay(rows, begins, ends, slots, weights, starts, positions, group, values, first, last):  # type: ignore[no-untyped-def]  # pragma: no cover
    change = np.zeros(rows.shape[1], rows.dtype)
    for i in range(first, last):
        if begins[i] >= ends[i]:
            continue
        change[:] = 0
        x = rows[i]
        for e in range(begins[i], ends[i]):
            w = weights[e]
            for p in range(starts[slots[e]], starts[slots[e] + 1]):
                for q in range(group):
                    c = positions[p] * group + q
                    change[c] += w * (values[p * group + q] - x[c])
        for c in range(x.size):
            x[c] += change[c]


@njit(cache=True, nogil=True)
def add(rows, begins, ends, slots, weights, starts, positions, group, values, first, last):  # type: ignore[no-untyped-def]  # pragma: no cover
    for i in range(first, last):
        x = rows[i]
        for e in range(begins[i], ends[i]):
            w = weights[e]
            for p in range(starts[slots[e]], starts[slots[e] + 1]):
                for q in range(group):
                    x[positions[p] * group + q] += w * values[p * group + q]
