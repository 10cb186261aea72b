"""What every measure of disparity has: a finding with its interval and its verdict.

Differences are signed: a group's rate less that of the reference group. Ratios are a group's rate
over the reference's. A verdict is given only where the interval leaves no doubt; the rest is
*undecided*, and a rate of nothing over a rate of nothing is *undefined*, not fair.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from pydantic import Field

from hansa.audit import intervals
from hansa.audit.estimates import Estimate
from hansa.base.component import Component
from hansa.base.errors import ConfigError

Domain = Literal["all", "label 1", "label 0"]


@dataclass(frozen=True)
class Finding:
    """One measure of one comparison.

    Attributes:
        attribute: whose groups are compared.
        metric: the measure's name.
        group: that is compared, or "" where all are.
        reference: the group that it is compared with, or "".
        estimate: nan where it is undefined.
        low: end of its interval.
        high: end of its interval.
        verdict: below, above, undecided or undefined for a ratio against its threshold; different,
            similar, undecided or undefined for a difference.
        convention: what was taken from what, in words.
        remark: why there is no verdict, or "".
    """

    attribute: str
    metric: str
    group: str
    reference: str
    estimate: float
    low: float
    high: float
    verdict: str
    convention: str
    remark: str = ""


class Disparity(Component, kind="disparity"):
    """A measure of how differently groups fare."""

    domains: ClassVar[tuple[Domain, ...]] = ("all",)
    least: int = Field(
        5, ge=1, description="groups with fewer answers are insufficient evidence for a verdict"
    )

    @abstractmethod
    def compare(
        self, estimates: Mapping[Domain, Estimate], confidence: float, reference: str | None
    ) -> list[Finding]:
        """Findings by their intervals alone, one a comparison.

        Args:
            estimates: of one attribute, over each of :attr:`domains`.
            confidence: of the intervals.
            reference: the group that others are compared with; None = the first.
        """

    def findings(
        self,
        estimates: Mapping[Domain, Estimate],
        confidence: float = 0.95,
        reference: str | None = None,
    ) -> list[Finding]:
        """Findings, without a verdict where a group has too few answers.

        Args:
            estimates: of one attribute, over each of :attr:`domains`.
            confidence: of the intervals.
            reference: the group that others are compared with; None = the first.

        Raises:
            ConfigError: there is no such group.
        """
        findings = []
        for one in self.compare(estimates, confidence, reference):
            few = {
                group: int(estimate.answered[estimate.values.index(group)])
                for estimate in (estimates[domain] for domain in self.domains)
                for group in (one.group, one.reference)
                if estimate.answered[estimate.values.index(group)] < self.least
            }
            if few:
                counts = ", ".join(f"{group} has {count}" for group, count in few.items())
                remark = f"insufficient evidence: {counts} answers, {self.least} are the least"
                verdict = one.verdict if one.verdict == "undefined" else "undecided"
                one = replace(one, verdict=verdict, remark=remark)
            findings.append(one)
        return findings


def others(estimate: Estimate, reference: str | None) -> tuple[int, list[int]]:
    """The reference group's place, and the places of those that are compared with it."""
    if reference is not None and reference not in estimate.values:
        fix = f"one of {', '.join(estimate.values)}"
        raise ConfigError("reference", reference, f"is no group of {estimate.attribute}", fix)
    base = 0 if reference is None else estimate.values.index(reference)
    return base, [group for group in range(len(estimate.values)) if group != base]


def gap(estimate: Estimate, group: int, base: int, confidence: float) -> tuple[float, float, float]:
    """A group's rate less the reference's, and its interval."""
    value = float(estimate.rates[group] - estimate.rates[base])
    low, high = intervals.difference(
        float(estimate.rates[group]),
        estimate.interval(group, confidence),
        float(estimate.rates[base]),
        estimate.interval(base, confidence),
    )
    return value, low, high


def judged(value: float, low: float, high: float, tolerance: float) -> str:
    """Whether a difference is more than is tolerated, less, or undecided."""
    if math.isnan(value):
        return "undefined"
    if low > tolerance or high < -tolerance:
        return "different"
    if -tolerance <= low and high <= tolerance:
        return "similar"
    return "undecided"
