"""Intervals of rates, differences and ratios that hold what they promise.

Wilson's interval of a rate (1927), Newcombe's of a difference (1998, his method 10) and Donner and
Zou's of a ratio (2012, MOVER-R), each on the *effective* number of answers: how many plain answers
with replacement would say as much as the design did. A group that was asked whole is known.
"""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

import numpy as np

Interval = tuple[float, float]


@cache
def quantile(confidence: float) -> float:
    """The normal deviate of a two-sided interval."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def wilson(rate: float, count: float, confidence: float = 0.95) -> Interval:
    """Of a rate seen over so many answers; everything where there is no answer.

    Args:
        rate: in 0..1, or nan.
        count: of answers, a fraction if it is an effective one, inf where all are known.
        confidence: in 0..1.
    """
    if math.isnan(rate) or math.isnan(count) or count <= 0:
        return 0.0, 1.0
    if math.isinf(count):
        return rate, rate
    z = quantile(confidence)
    middle = (rate + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(rate * (1 - rate) / count + (z / count) ** 2 / 4)
    return max(0.0, min(rate, middle - half)), min(1.0, max(rate, middle + half))


def difference(rate: float, interval: Interval, other: float, other_interval: Interval) -> Interval:
    """Of ``rate - other``, from the intervals of the two (Newcombe)."""
    if math.isnan(rate) or math.isnan(other):
        return -1.0, 1.0
    gap = rate - other
    low = gap - math.hypot(rate - interval[0], other_interval[1] - other)
    high = gap + math.hypot(interval[1] - rate, other - other_interval[0])
    return max(-1.0, low), min(1.0, high)


def ratio(rate: float, interval: Interval, other: float, other_interval: Interval) -> Interval:
    """Of ``rate / other``, from those of the two (Donner and Zou); 0 to inf if undefined."""
    if math.isnan(rate) or math.isnan(other):
        return 0.0, math.inf
    (low, high), (other_low, other_high) = interval, other_interval
    product = rate * other

    def bound(own: float, others: float, sign: int) -> float:
        if others <= 0:
            return math.inf if sign > 0 else 0.0
        left = 2 * other - others
        inside = product**2 - own * others * (2 * rate - own) * left
        if abs(left) < 1e-12 * others:  # what the formula tends to
            return own * (2 * rate - own) / (2 * product) if product else 0.0
        return (product + sign * math.sqrt(max(0.0, inside))) / (others * left)

    top = math.inf if other_low <= 0 else bound(high, other_low, 1)
    return max(0.0, bound(low, other_high, -1)), top


def percentiles(draws: np.ndarray, confidence: float = 0.95) -> Interval:
    """Of a bootstrap's draws [times] of any measure; those that are undefined are left out."""
    known = draws[~np.isnan(draws)]
    if not len(known):
        return -math.inf, math.inf
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
