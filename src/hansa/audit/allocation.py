"""How many questions go to each stratum: exact for whole numbers, within floors and caps.

The error of an audit is a sum over strata of ``a / n``, separable and convex, so giving one
question at a time to the stratum that gains most is optimal for whole numbers; no solver is
needed. What one at a time would come to is reached here through the last gain that is still paid.
"""

from __future__ import annotations

import numpy as np


def optimal(
    weights: np.ndarray,
    total: int,
    caps: np.ndarray,
    floors: np.ndarray | int = 0,
) -> np.ndarray:
    """Whole numbers n that minimise the sum of ``weights / n``, floors <= n <= caps.

    Args:
        weights: [..., C], not negative; a stratum of weight 0 gets its floor, and what no other
            can take.
        total: the sum of n; less where the caps add up to less.
        caps: int [C].
        floors: int, [..., C] or one for all; cut at the caps, none where they are above the total.

    Returns:
        int64 [..., C].
    """
    weights = np.asarray(weights, float)
    caps = np.broadcast_to(np.asarray(caps, np.int64), weights.shape)
    least = np.minimum(np.broadcast_to(np.asarray(floors, np.int64), weights.shape), caps)
    total = min(int(total), int(caps[(0,) * (caps.ndim - 1)].sum()))
    if (least.sum(-1) > total).any():
        least = np.zeros_like(least)
    largest = weights.max(-1, keepdims=True)
    scaled = np.where(largest > 0, weights / np.where(largest > 0, largest, 1), 1.0)
    scaled = np.maximum(scaled, 1e-15)  # nothing left to gain: what nobody else can take
    low = np.full(largest.shape, -80.0)  # log of a gain that everything exceeds
    high = np.full(largest.shape, 1.0)
    for _ in range(60):
        middle = (low + high) / 2
        few = _taken(scaled, middle, least, caps).sum(-1, keepdims=True) <= total
        low, high = np.where(few, low, middle), np.where(few, middle, high)
    counts = _taken(scaled, high, least, caps)
    # What is left are ties for the last gain: at most one a stratum, to the first of them.
    left = total - counts.sum(-1)
    gains = np.where(counts < caps, _gain(scaled, counts), -1.0)
    rank = np.argsort(np.argsort(-gains, axis=-1, kind="stable"), axis=-1)
    return counts + (rank < left[..., None])


def equal(total: int, caps: np.ndarray) -> np.ndarray:
    """int64 [C]: as equal as the caps allow, what is left over to the first."""
    return optimal(np.ones(len(caps)), total, caps)


def _gain(weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """What one more question takes off the sum; the first one as if there had been half of one."""
    return weights / np.where(counts == 0, 1, counts * (counts + 1))


def _taken(
    weights: np.ndarray, log_gain: np.ndarray, floors: np.ndarray, caps: np.ndarray
) -> np.ndarray:
    """How many questions each stratum takes while each gains at least so much."""
    ratio = weights / np.exp(log_gain)
    counts = np.floor((1 + np.sqrt(1 + 4 * ratio)) / 2 + 1e-12)
    return np.clip(np.where(ratio >= 1, counts, 0), floors, caps).astype(np.int64)


def with_overflow(wanted: np.ndarray, sizes: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The published rule where strata hold fewer rows than are wanted (the ``oversample`` flag).

    Such a stratum gives all it has; what it lacks is spread equally over those that have more,
    smallest first, and the remainder goes to strata drawn at random.

    Args:
        wanted: int [C].
        sizes: int [C].

    Returns:
        int64 [C].
    """
    counts = np.minimum(wanted, sizes).astype(np.int64)
    deficit = min(int(np.sum(wanted)), int(np.sum(sizes))) - int(counts.sum())
    while deficit > 0:
        room = np.flatnonzero(counts < sizes)
        share = deficit // len(room)
        if share == 0:
            chosen = random.choice(room, deficit, replace=False)
            counts[chosen] += 1
            break
        for place in room[np.argsort(sizes[room], kind="stable")]:
            more = min(share, int(sizes[place] - counts[place]))
            counts[place] += more
            deficit -= more
    return counts
