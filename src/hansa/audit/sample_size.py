"""How many answers tell two rates apart, before any is given."""

from __future__ import annotations

import math
from statistics import NormalDist

from hansa.audit import intervals


def sample_size(
    rate: float, other: float, power: float = 0.8, confidence: float = 0.95
) -> int | None:
    """Answers that each of two groups needs to tell their rates apart; None if they are alike.

    The usual one for two proportions: (z_a sqrt(2 p q) + z_b sqrt(p1 q1 + p2 q2))^2 / d^2.

    Args:
        rate: of one group.
        other: of the other.
        power: chance to tell them apart.
        confidence: of the interval that has to leave out 0.
    """
    if rate == other:
        return None
    middle = (rate + other) / 2
    alpha, beta = intervals.quantile(confidence), NormalDist().inv_cdf(power)
    root = alpha * math.sqrt(2 * middle * (1 - middle))
    root += beta * math.sqrt(rate * (1 - rate) + other * (1 - other))
    return math.ceil((root / (rate - other)) ** 2)
