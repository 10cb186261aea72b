"""Means of order statistics of many short columns at once, by a network of exchanges.

A network sorts n numbers by the same sequence of (smaller, larger) whatever they are, so a step
works on a whole vector of columns: no branch, and the processor's widest instructions. The network
is Batcher's merge exchange (Knuth, The Art of Computer Programming 3, algorithm 5.2.2M). Steps that
the asked ranks do not depend on are left out, and so is the half of a step that nobody reads.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_CACHED = 1 << 17
"""Numbers of a chunk, so that a chunk stays in a core's cache."""
_LARGEST = 96
"""Rows above which NumPy's own sort is the faster one."""

Step = tuple[int, int, bool, bool]
"""Two wires, and whether the smaller is read later, and the larger."""


@lru_cache(maxsize=256)
def network(n: int, low: int, high: int) -> tuple[Step, ...]:
    """The steps after which wires low .. high - 1 hold the numbers of these ranks, of n."""
    pairs, p = [], 1 << max(0, (n - 1).bit_length() - 1)
    top = p
    while p > 0:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(n - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    needed, steps = [low <= wire < high for wire in range(n)], []
    for i, j in reversed(pairs):
        if needed[i] or needed[j]:
            steps.append((i, j, needed[i], needed[j]))
            needed[i] = needed[j] = True
    return tuple(reversed(steps))


def mean_of_ranks(rows: np.ndarray, low: int, high: int) -> np.ndarray:
    """The mean of the low-th to the (high - 1)-th smallest of n: [m, n, D] -> [m, D].

    NaN counts as larger than all numbers. Sums are in double precision and in ascending order, so
    that the order of the rows does not matter to the last bit.
    """
    m, n, size = rows.shape
    result = np.empty((m, size), dtype=rows.dtype)
    sets, width = max(1, _CACHED // max(1, n * size)), max(1, _CACHED // n)
    with np.errstate(invalid="ignore", over="ignore"):  # infinite numbers may be among them
        for first in range(0, m, sets):
            for column in range(0, size, width):
                span = (slice(first, first + sets), slice(column, column + width))
                own = result[span]
                own[:] = mean_of_lanes(_lanes(rows[span[0], :, span[1]]), low, high).reshape(
                    own.shape
                )
    return result


def _lanes(rows: np.ndarray) -> np.ndarray:
    """A copy of rows [m, n, D] as [n, m D]; of many short ones each moves as one piece."""
    m, n, size = rows.shape
    if m > 1 and rows.flags.c_contiguous:
        pieces = rows.view(f"V{size * rows.itemsize}")[:, :, 0].T
        return np.array(pieces, order="C").view(rows.dtype)
    return np.array(rows.transpose(1, 0, 2), order="C").reshape(n, m * size)


def mean_of_lanes(lanes: np.ndarray, low: int, high: int) -> np.ndarray:
    """The mean of the low-th to the (high - 1)-th smallest of each column: [n, C] -> [C].

    What is in ``lanes`` is lost.
    """
    n = len(lanes)
    if n > _LARGEST or np.isnan(np.min(lanes)):
        inner = list(np.sort(lanes.T, axis=1).T[low:high])
    else:
        inner = _sorted(list(lanes), low, high)
    if len(inner) == 1:
        return inner[0]
    total = inner[0].astype(np.float64)
    for lane in inner[1:]:
        total += lane
    return total / len(inner)


def _sorted(lanes: list[np.ndarray], low: int, high: int) -> list[np.ndarray]:
    spare = np.empty_like(lanes[0])
    for i, j, smaller, larger in network(len(lanes), low, high):
        if smaller and larger:
            np.minimum(lanes[i], lanes[j], out=spare)
            np.maximum(lanes[i], lanes[j], out=lanes[j])
            lanes[i], spare = spare, lanes[i]
        elif smaller:
            np.minimum(lanes[i], lanes[j], out=lanes[i])
        else:
            np.maximum(lanes[i], lanes[j], out=lanes[j])
    return lanes[low:high]
