"""Intervals that hold at every moment: an audit may look after each answer and stop when it likes.

Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (2023): a mean is
kept for as long as nobody who bets against it would have multiplied her money by 1 / alpha. Their
hedged capital (section 4.4) with predictable plug-in bets, for sampling without replacement
(section 5) where the population is known to be finite. Rows have to be asked in random order within
the group: so it is for uniform and stratified sampling.
"""

from __future__ import annotations

import math

import numpy as np

GRID = 1001
"""Means that are bet against, from 0 to 1."""
TRUNCATION = 0.5
"""Share of her money that a bettor stakes at most."""


def confidence_sequence(
    answers: np.ndarray, population: int | None = None, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Lows and highs [T] of a group's rate after each answer; all hold at once.

    Args:
        answers: [T] of 0 and 1, in the order in which they came.
        population: rows of the group, asked without replacement; None = without end.
        confidence: that the rate is within all of them.
    """
    answers = np.asarray(answers, float)
    count = len(answers)
    if not count:
        return np.zeros(0), np.ones(0)
    alpha = 1 - confidence
    time = np.arange(1, count + 1)
    before = np.concatenate([[0.0], np.cumsum(answers)[:-1]])
    # What was seen until the step before decides the stake: mean and variance, with one half added.
    means = (0.5 + np.cumsum(answers)) / (time + 1)
    squares = np.cumsum((answers - means) ** 2)
    spread = (0.25 + np.concatenate([[0.0], squares[:-1]])) / time
    stakes = np.sqrt(2 * math.log(2 / alpha) / (spread * time * np.log(time + 1)))

    grid = np.linspace(0, 1, GRID)
    means_left = np.broadcast_to(grid, (count, GRID))
    possible = np.ones((count, GRID), bool)
    if population is not None:
        left = population - time + 1
        means_left = (population * grid - before[:, None]) / left[:, None]
        seen = np.cumsum(answers)[:, None]
        whole = population * grid
        # A mean that would need fewer favourable rows than were seen, or more than are left.
        possible = (whole > seen - 0.5) & (whole < population - (time[:, None] - seen) + 0.5)
    inside = np.clip(means_left, 1e-9, 1 - 1e-9)
    apart = answers[:, None] - means_left
    up = np.minimum(stakes[:, None], TRUNCATION / inside)
    down = np.minimum(stakes[:, None], TRUNCATION / (1 - inside))
    gains = np.cumsum(np.log(np.maximum(1 + up * apart, 1e-12)), axis=0)
    losses = np.cumsum(np.log(np.maximum(1 - down * apart, 1e-12)), axis=0)
    capital = np.maximum(gains, losses) + math.log(0.5)
    kept = np.logical_and.accumulate((capital < math.log(1 / alpha)) & possible, axis=0)
    some = kept.any(axis=1)
    step = 1 / (GRID - 1)
    lows = np.where(some, grid[kept.argmax(axis=1)] - step, np.nan)
    highs = np.where(some, grid[GRID - 1 - kept[:, ::-1].argmax(axis=1)] + step, np.nan)
    # Between two means of the grid nothing is left: the place where they were last, and its step.
    final = np.maximum.accumulate(np.where(some, np.arange(count), 0))
    return np.clip(lows[final], 0, 1), np.clip(highs[final], 0, 1)


def difference_sequence(
    answers: np.ndarray,
    groups: np.ndarray,
    sizes: tuple[int, int] | None = None,
    confidence: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Lows and highs [T] of the second group's rate less the first's, after each answer.

    Each group has a sequence of its own at half the error, so that both hold at once.

    Args:
        answers: [T] of 0 and 1.
        groups: [T] of 0 and 1, whose answer each is.
        sizes: rows of the two groups, asked without replacement; None = without end.
        confidence: that the difference is within all of them.
    """
    groups = np.asarray(groups)
    each = (1 + confidence) / 2
    ends = []
    for group in (0, 1):
        mine = np.flatnonzero(groups == group)
        size = None if sizes is None else sizes[group]
        lows, highs = confidence_sequence(np.asarray(answers)[mine], size, each)
        # Until the group's next answer its last interval stays.
        last = np.cumsum(groups == group) - 1
        low = np.where(last >= 0, np.append(lows, 0.0)[last], 0.0)
        high = np.where(last >= 0, np.append(highs, 1.0)[last], 1.0)
        ends.append((low, high))
    (first_low, first_high), (second_low, second_high) = ends
    return second_low - first_high, second_high - first_low


def first_decided(lows: np.ndarray, highs: np.ndarray, tolerance: float = 0.0) -> int | None:
    """After how many answers a difference was more than is tolerated, or sure to be less; or None.

    Args:
        lows: [T].
        highs: [T].
        tolerance: differences of up to so much count as similar.
    """
    apart = (lows > tolerance) | (highs < -tolerance)
    close = (lows >= -tolerance) & (highs <= tolerance) if tolerance else np.zeros_like(apart)
    decided = np.flatnonzero(apart | close)
    return int(decided[0]) + 1 if len(decided) else None
