"""Compiled loops over ratings one by one (see ``rating_networks.py``)."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, inline="always")
def predicted(row, x, y, k, biases, mean):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The rating, in units, of the groups that begin at x and y."""
    total = mean
    for f in range(k):
        total += row[x + f] * row[y + f]
    if biases:
        total += row[x + k]
        total += row[y + k]
    return total


@njit(cache=True, nogil=True)
def descend(  # type: ignore[no-untyped-def]  # pragma: no cover
    rows, indptr, pairs, ratings, lr, keep, item_lr, item_keep, users, items, k, biases, learned,
    constant, squares, first, last,
):  # fmt: skip
    group, end = k + 1, (users + items) * (k + 1)
    for i in range(first, last):
        row = rows[i]
        total = 0.0
        for s in range(indptr[i], indptr[i + 1]):
            x, y = pairs[s, 0] * group, (users + pairs[s, 1]) * group
            mean = row[end] if learned else constant
            error = ratings[s] - predicted(row, x, y, k, biases, mean)
            total += np.float64(error) * np.float64(error)
            step, item_step = lr * error, item_lr * error
            for f in range(k):
                row[y + f] = item_keep * row[y + f] + item_step * row[x + f]
            for f in range(k):
                row[x + f] = keep * row[x + f] + step * row[y + f]
            if biases:
                row[x + k] += step
                row[y + k] += item_step
            if learned:
                row[end] += step
        if indptr[i + 1] > indptr[i]:
            squares[i] = total / (indptr[i + 1] - indptr[i])


@njit(cache=True, nogil=True)
def rate(  # type: ignore[no-untyped-def]  # pragma: no cover
    rows, indptr, pairs, users, items, k, biases, learned, constant, values, first, last
):
    group, end = k + 1, (users + items) * (k + 1)
    for i in range(first, last):
        row = rows[i]
        mean = row[end] if learned else constant
        for s in range(indptr[i], indptr[i + 1]):
            x, y = pairs[s, 0] * group, (users + pairs[s, 1]) * group
            values[s] = predicted(row, x, y, k, biases, mean)
