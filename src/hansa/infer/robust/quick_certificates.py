"""Aggregates and certificates of few queries, by NumPy: what ``hansa.ensemble.certificates`` says.

A server answers one query at a time, and a hundred of torch's operations on ten numbers take longer
than all else that it does. Here all f are tried at once. The tests hold every number to torch's.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import numpy as np

from hansa.ensemble.aggregators import Aggregator, MajorityVote, Mean

Certified: TypeAlias = "tuple[np.ndarray, np.ndarray]"
"""Scores float64 [m, K], and f* int64 [m]."""


def quickly(aggregator: Aggregator, rows: np.ndarray, missing: int = 0) -> Certified | None:
    """The aggregate of the rows float64 [m, r, K] that are there, and f* with ``missing`` more.

    None for aggregators whose numbers are no means of order statistics, and no votes.
    """
    n = rows.shape[1] + missing
    if isinstance(aggregator, MajorityVote):
        return _votes(rows, n)
    here, ranks = aggregator.ranks(rows.shape[1]), aggregator.ranks(n)
    if here is None or ranks is None:
        return None
    ascending = np.sort(rows, axis=1)
    sums = _from_zero(ascending)
    scores = (sums[:, here[1]] - sums[:, here[0]]) / (here[1] - here[0])
    if isinstance(aggregator, Mean):
        return scores, _largest(_mean(rows, scores, n))
    return scores, _largest(_ranks(sums, n, *ranks))


def _from_zero(ascending: np.ndarray) -> np.ndarray:
    """Sums of the k smallest: [m, r, K] -> [m, r + 1, K]."""
    sums = np.zeros((ascending.shape[0], ascending.shape[1] + 1, ascending.shape[2]))
    np.cumsum(ascending, axis=1, out=sums[:, 1:])
    return sums


@lru_cache(maxsize=256)
def _spans(n: int, r: int, low: int, high: int) -> tuple[np.ndarray, ...]:
    """Which sums the ends of a number are the difference of, at each f: int64 [F] each.

    With n - r + f rows of 0 (of 1), the low-th to the (high - 1)-th smallest of n begin and end at
    these of the rows that are left, which are without their f largest (smallest).
    """
    f = np.arange(min((n - 1) // 2, r) + 1)
    ones = n - r + f
    first, last = (np.clip(rank - ones, 0, r - f) for rank in (low, high))
    top, bottom = (np.clip(n - rank - ones, 0, r - f) for rank in (high, low))
    return first, last, r - bottom, r - top


def _ranks(sums: np.ndarray, n: int, low: int, high: int) -> np.ndarray:
    """Whether a class is certified at each f, by the ends of its numbers: bool [m, F]."""
    r, width = sums.shape[1] - 1, high - low
    first, last, bottom, top = _spans(n, r, low, high)
    lowest = (sums[:, last] - sums[:, first]) / width
    ones = width - (top - bottom)  # of those that count, so many are 1
    highest = (sums[:, top] - sums[:, bottom] + ones[:, None]) / width
    queries, each = np.arange(len(lowest))[:, None], np.arange(lowest.shape[1])
    at = (queries, each, lowest.argmax(2))
    highest[at] = -np.inf
    return np.asarray(lowest[at] > highest.max(2))


def _mean(rows: np.ndarray, scores: np.ndarray, n: int) -> np.ndarray:
    """Whether no liars can make any rival win, who take a lead and give 1 each: bool [m, F]."""
    f = np.arange(min((n - 1) // 2, rows.shape[1]) + 1)
    best = scores.argmax(1)[:, None, None]
    leads = np.take_along_axis(rows, best, 2) - rows
    leads.sort(axis=1)
    r = rows.shape[1]
    left = _from_zero(leads)[:, r - f] - (f + n - r)[None, :, None]
    np.put_along_axis(left, np.broadcast_to(best, (len(rows), len(f), 1)), np.inf, 2)
    return np.asarray(left.min(2) > 0)


def _votes(rows: np.ndarray, n: int) -> Certified:
    _, r, classes = rows.shape
    said = rows.argmax(2)
    counts = np.stack([np.bincount(one, minlength=classes) for one in said]).astype(np.float64)
    leading = counts.argmax(1)[:, None]
    need = np.where(np.arange(classes) > leading, 0, 1)  # a tie is lost to a class before
    spare = np.take_along_axis(counts, leading, 1) - counts - (n - r) - need
    np.put_along_axis(spare, leading, np.inf, 1)
    most = np.floor(spare.min(1) / 2)
    return counts / r, np.clip(most, -1, min((n - 1) // 2, r)).astype(np.int64)


def _largest(holds: np.ndarray) -> np.ndarray:
    """The largest f up to which it holds, int64 [m]; -1: for none."""
    return np.asarray(np.cumprod(holds, axis=1).sum(1) - 1)
