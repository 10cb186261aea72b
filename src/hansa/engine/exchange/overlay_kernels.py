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


@njit(cache=True, nogil=True)
def mix_held(  # type: ignore[no-untyped-def]  # pragma: no cover
    rows,
    held,
    indptr,
    slots,
    shares,
    weights,
    takes,
    lend,
    starts,
    positions,
    group,
    values,
    first,
    last,
):
    total = np.zeros(rows.shape[1], rows.dtype)
    weight = np.zeros(held.shape[1])
    heard = np.zeros(held.shape[1], np.bool_)
    divisor = np.zeros(1, rows.dtype)
    for i in range(first, last):
        x = rows[i]
        total[:] = 0
        weight[:] = 0
        heard[:] = False
        for e in range(indptr[i], indptr[i + 1]):
            if slots[e] < 0:  # the receiver's own
                for g in range(0 if lend else held.shape[1]):
                    if held[i, g]:
                        weight[g] += weights[e]
                        for c in range(g * group, (g + 1) * group):
                            total[c] += shares[e] * x[c]
                continue
            for p in range(starts[slots[e]], starts[slots[e] + 1]):
                g = positions[p]
                heard[g] = True
                if held[i, g]:
                    weight[g] += weights[e]
                    for q in range(group):
                        v = values[p * group + q]
                        if lend:
                            v -= x[g * group + q]
                        total[g * group + q] += shares[e] * v
                else:
                    weight[g] += takes[e]
                    divisor[0] = takes[e]
                    for q in range(group):
                        total[g * group + q] += divisor[0] * values[p * group + q]
        for g in range(held.shape[1]):
            if not heard[g] or weight[g] <= 0:
                continue
            divisor[0] = weight[g]
            for c in range(g * group, (g + 1) * group):
                if lend and held[i, g]:
                    x[c] += total[c]
                else:
                    x[c] = total[c] / divisor[0]
            held[i, g] = True


@njit(cache=True, nogil=True)
def halve_held(rows, held, indptr, slots, starts, positions, group, values, first, last):  # type: ignore[no-untyped-def]  # pragma: no cover
    for i in range(first, last):
        x = rows[i]
        for e in range(indptr[i], indptr[i + 1]):
            for p in range(starts[slots[e]], starts[slots[e] + 1]):
                g = positions[p]
                if held[i, g]:
                    for q in range(group):
                        x[g * group + q] = (x[g * group + q] + values[p * group + q]) / 2
                else:
                    held[i, g] = True
                    for q in range(group):
                        x[g * group + q] = values[p * group + q]
