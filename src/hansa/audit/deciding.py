"""How many more queries would decide what is undecided, if the estimates stay as they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from hansa.audit.estimates import Estimate
from hansa.audit.intervals import Interval
from hansa.audit.pooling import Agreed
from hansa.audit.verdicts import Disparity, Domain

_STEPS = 40


def grown(estimate: Estimate, factor: float) -> Estimate:
    """The same estimate from ``factor`` times as many answers, at most from all members.

    A variance of S² / n (1 - n / N) falls with n, to nothing where a group is asked whole.
    """
    before = estimate.answered.astype(float)
    after = np.minimum(before * factor, estimate.population)
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = (estimate.population - after) / (estimate.population - before)
        variances = estimate.variances * np.where(before < estimate.population, rest, 0.0)
        variances = variances * before / after
        share = np.where(before > 0, estimate.positives / before, 0.0)
    whole = after >= estimate.population
    answered = np.where(whole, estimate.population, np.floor(after)).astype(np.int64)
    changed = replace(estimate, answered=answered, positives=share * answered, variances=variances)
    if isinstance(estimate, Agreed):
        plain = {one.name: getattr(changed, one.name) for one in fields(Estimate)}
        return Narrowed(**plain, wide=estimate, by=1 / math.sqrt(factor))
    return changed


@dataclass(frozen=True)
class Narrowed(Estimate):
    """A pool's estimate from more answers: its intervals are nearer to its rates.

    Attributes:
        wide: the estimate as it is.
        by: what is left of the distance from a rate to the ends of its interval. That a group is
            asked whole does not help: each agent's own answers have to.
    """

    wide: Estimate | None = None
    by: float = 1.0

    def interval(self, group: int, confidence: float) -> Interval:
        """The interval as it is, drawn together."""
        assert self.wide is not None
        low, high = self.wide.interval(group, confidence)
        rate, by = float(self.rates[group]), self.by
        if math.isnan(rate):
            return low, high
        return rate - by * (rate - low), rate + by * (high - rate)


def more(
    metric: Disparity,
    estimates: Mapping[Domain, Estimate],
    place: int,
    spent: int,
    confidence: float,
    reference: str | None,
) -> int | None:
    """Queries beyond the ``spent`` ones after which a finding would not be undecided.

    Args:
        metric: of the finding.
        estimates: of one attribute over the metric's domains.
        place: of the finding among those of the metric.
        spent: queries whose answers are in the estimates.
        confidence: of the intervals.
        reference: the group that others are compared with; None = the first.

    Returns:
        None where no number would: the estimate lies on the line itself, or nothing is known.
    """

    def undecided(factor: float) -> bool:
        larger = {name: grown(one, factor) for name, one in estimates.items()}
        return metric.findings(larger, confidence, reference)[place].verdict == "undecided"

    if spent <= 0 or not all(one.answered.all() for one in estimates.values()):
        return None
    low, high = (
        1.0,
        max(
            float((one.population / np.maximum(one.answered, 1)).max())
            for one in estimates.values()
        ),
    )
    if undecided(high):
        return None
    for _ in range(_STEPS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if undecided(middle) else (low, middle)
        if high * spent - low * spent < 0.5:
            break
    return max(1, math.ceil(spent * (_growth(estimates, high) - 1)))


def _growth(estimates: Mapping[Domain, Estimate], factor: float) -> float:
    """How many times as many answers there would be: groups that are asked whole stop growing."""
    before = sum(one.answered.sum() for one in estimates.values())
    after = sum(
        np.minimum(one.answered * factor, one.population).sum() for one in estimates.values()
    )
    return float(after / before)
