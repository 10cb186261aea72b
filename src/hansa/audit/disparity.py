"""The measures of disparity: parity, opportunity, odds, and the four-fifths rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from hansa.audit import intervals
from hansa.audit.estimates import Estimate
from hansa.audit.verdicts import Disparity, Domain, Finding, gap, judged, others
from hansa.base.component import register

FOUR_FIFTHS = 0.8


class _Difference(Disparity):
    """A signed difference of rates over one domain."""

    tolerance: float = Field(
        0.0, ge=0, lt=1, description="differences of up to so much count as similar"
    )
    what: ClassVar[str] = "rate of favourable answers"

    def compare(
        self, estimates: Mapping[Domain, Estimate], confidence: float, reference: str | None
    ) -> list[Finding]:
        estimate = estimates[self.domains[0]]
        base, compared = others(estimate, reference)
        rows = []
        for group in compared:
            value, low, high = gap(estimate, group, base, confidence)
            mine, theirs = estimate.values[group], estimate.values[base]
            rows.append(
                Finding(
                    estimate.attribute,
                    self.name,
                    mine,
                    theirs,
                    value,
                    low,
                    high,
                    judged(value, low, high, self.tolerance),
                    f"{self.what}: {mine} less {theirs}",
                )
            )
        return rows


@register("demographic_parity")
class DemographicParity(_Difference):
    """How much likelier a favourable answer is for a group than for the reference group."""


@register(
    "equal_opportunity", paper="Hardt et al.", year=2016, url="https://arxiv.org/abs/1610.02413"
)
class EqualOpportunity(_Difference):
    """The same among those whose true outcome is favourable: true positive rates."""

    domains: ClassVar[tuple[Domain, ...]] = ("label 1",)
    what: ClassVar[str] = "true positive rate"


@register("impact_ratio")
class ImpactRatio(Disparity):
    """A group's rate over the reference's, against the four-fifths rule (29 CFR 1607.4 D).

    *Below* where the whole interval shows one of the two at less than four fifths of the other,
    *above* where it shows neither so, else *undecided*. 0 over 0 is *undefined*.
    """

    threshold: float = Field(FOUR_FIFTHS, gt=0, le=1, description="below it is adverse impact")
    of_highest: bool = Field(
        False, description="compare with the group of the highest rate, as the rule has it"
    )

    def compare(
        self, estimates: Mapping[Domain, Estimate], confidence: float, reference: str | None
    ) -> list[Finding]:
        estimate = estimates["all"]
        if self.of_highest and not all(math.isnan(rate) for rate in estimate.rates):
            rated = [-1.0 if math.isnan(rate) else float(rate) for rate in estimate.rates]
            reference = estimate.values[rated.index(max(rated))]
        base, compared = others(estimate, reference)
        return [self._finding(estimate, group, base, confidence) for group in compared]

    def _finding(self, estimate: Estimate, group: int, base: int, confidence: float) -> Finding:
        mine, theirs = float(estimate.rates[group]), float(estimate.rates[base])
        low, high = intervals.ratio(
            mine,
            estimate.interval(group, confidence),
            theirs,
            estimate.interval(base, confidence),
        )
        names = estimate.values[group], estimate.values[base]
        return Finding(
            estimate.attribute,
            self.name,
            *names,
            impact_ratio(mine, theirs),
            low,
            high,
            four_fifths(mine, theirs, low, high, self.threshold),
            f"rate of favourable answers: {names[0]} over {names[1]}, against {self.threshold:g}",
        )


def impact_ratio(rate: float, other: float) -> float:
    """rate / other; inf over a rate of 0, nan where both are 0."""
    if other == 0:
        return math.nan if not rate > 0 else math.inf
    return rate / other


def four_fifths(rate: float, other: float, low: float, high: float, threshold: float) -> str:
    """below, above, undecided or undefined, from the interval of the ratio of two rates."""
    if math.isnan(rate) or math.isnan(other) or rate == other == 0:
        return "undefined"
    if high < threshold or low > 1 / threshold:
        return "below"
    if low >= threshold and high <= 1 / threshold:
        return "above"
    return "undecided"


@register("max_gap")
class MaxGap(Disparity):
    """The largest difference of rates between any two groups of an attribute or intersection.

    The interval is that of all pairs at once (Bonferroni), so it is careful.
    """

    tolerance: float = Field(
        0.0, ge=0, lt=1, description="differences of up to so much count as similar"
    )

    def compare(
        self, estimates: Mapping[Domain, Estimate], confidence: float, reference: str | None
    ) -> list[Finding]:
        estimate = estimates["all"]
        return [
            widest(estimate, self.name, confidence, self.tolerance, "rate of favourable answers")
        ]


def widest(
    estimate: Estimate, metric: str, confidence: float, tolerance: float, what: str
) -> Finding:
    """The largest gap between two groups, and an interval that holds for all pairs at once."""
    count = len(estimate.values)
    pairs = [(a, b) for a in range(count) for b in range(count) if a != b]
    each = 1 - (1 - confidence) / (len(pairs) // 2)
    gaps = [gap(estimate, a, b, each) for a, b in pairs]
    best = max(range(len(pairs)), key=lambda k: -1.0 if math.isnan(gaps[k][0]) else gaps[k][0])
    value = gaps[best][0]
    low = max(0.0, max(g[1] for g in gaps))
    high = max(g[2] for g in gaps)
    high_group, low_group = (estimate.values[k] for k in pairs[best])
    verdict = judged(value, low, high, tolerance)
    return Finding(
        estimate.attribute,
        metric,
        high_group,
        low_group,
        value,
        low,
        high,
        verdict,
        f"{what}: highest group less lowest, {high_group} less {low_group}",
    )


@register("equalized_odds", paper="Hardt et al.", year=2016, url="https://arxiv.org/abs/1610.02413")
class EqualizedOdds(Disparity):
    """The larger of the gaps in true and in false positive rates, or the ratio of their sums.

    The ratio is (TPR + FPR) of the group over (TPR + FPR) of the reference.
    """

    domains: ClassVar[tuple[Domain, ...]] = ("label 1", "label 0")
    form: Literal["difference", "ratio"] = Field("difference", description="which of the two")
    tolerance: float = Field(
        0.0, ge=0, lt=1, description="differences of up to so much count as similar"
    )

    def compare(
        self, estimates: Mapping[Domain, Estimate], confidence: float, reference: str | None
    ) -> list[Finding]:
        hits, alarms = (estimates[domain] for domain in self.domains)
        base, compared = others(hits, reference)
        if self.form == "ratio":
            return [self._ratio(hits, alarms, group, base, confidence) for group in compared]
        each = (1 + confidence) / 2
        gaps = [
            widest(one, self.name, each, self.tolerance, what)
            for one, what in ((hits, "true positive rate"), (alarms, "false positive rate"))
        ]
        worse = max(gaps, key=lambda one: -1.0 if math.isnan(one.estimate) else one.estimate)
        low = max(one.low for one in gaps)
        high = max(one.high for one in gaps)
        verdict = judged(worse.estimate, low, high, self.tolerance)
        return [replace(worse, low=low, high=high, verdict=verdict)]

    def _ratio(
        self, hits: Estimate, alarms: Estimate, group: int, base: int, confidence: float
    ) -> Finding:
        sums, ends = [], []
        for place in (group, base):
            rates = [float(one.rates[place]) for one in (hits, alarms)]
            both = [one.interval(place, confidence) for one in (hits, alarms)]
            total = sum(rates)
            below = math.hypot(*(rate - one[0] for rate, one in zip(rates, both, strict=True)))
            above = math.hypot(*(one[1] - rate for rate, one in zip(rates, both, strict=True)))
            sums.append(total)
            ends.append((max(0.0, total - below), total + above))
        low, high = intervals.ratio(sums[0], ends[0], sums[1], ends[1])
        value = odds_ratio(
            *(float(one.rates[place]) for place in (group, base) for one in (hits, alarms))
        )
        names = hits.values[group], hits.values[base]
        verdict = "undefined" if math.isnan(value) else "undecided"
        if not math.isnan(value) and not low <= 1 <= high:
            verdict = "different"
        return Finding(
            hits.attribute,
            self.name,
            *names,
            value,
            low,
            high,
            verdict,
            f"true and false positive rates together: {names[0]} over {names[1]}",
        )


def odds_ratio(tpr: float, fpr: float, other_tpr: float, other_fpr: float) -> float:
    """(TPR + FPR) of a group over (TPR + FPR) of the other; nan where that has neither."""
    below = other_tpr + other_fpr
    return (tpr + fpr) / below if below > 0 else math.nan
