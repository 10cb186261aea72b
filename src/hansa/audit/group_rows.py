"""What a report says of each group: who they are, what was asked, how they fare.

The rows are those of the US Uniform Guidelines (29 CFR 1607.4 D: selection rates, the four-fifths
rule) and of New York City's Local Law 144 (impact ratios by group and intersection; groups below
2 % may be set apart there). Nobody is left out: small groups, and members whose group is not known,
have their rows too.
"""

from __future__ import annotations

import math
from typing import Any

from hansa.audit.deciding import more
from hansa.audit.disparity import ImpactRatio
from hansa.audit.estimates import Estimate
from hansa.audit.verdicts import Finding, gap, others
from hansa.base.lazy import stats

SMALL = 0.02
"""Share of the population below which a group is called small."""


def group_rows(
    estimate: Estimate, confidence: float, reference: str | None, spent: int
) -> list[dict[str, Any]]:
    """A row for each group of an attribute, the reference first, and one for the unknown.

    Differences are those against the reference. Ratios are those over the group of the highest
    rate, as the rule has it, which has none. ``needed`` is how many more queries would decide the
    rule, if the rates stay. ``fisher`` is Fisher's exact p of the answers as they came, unweighted.

    Args:
        estimate: over all members.
        confidence: of the intervals.
        reference: the group that others are compared with; None = the first.
        spent: queries whose answers are in the estimate.
    """
    base, compared = others(estimate, reference)
    members = int(estimate.population.sum()) + estimate.unknown
    ratios = _ratios(estimate, confidence, spent)
    rows = []
    for group in [base, *compared]:
        low, high = estimate.interval(group, confidence)
        row: dict[str, Any] = {
            "group": estimate.values[group],
            "population": int(estimate.population[group]),
            "share": float(estimate.population[group] / members),
            "asked": int(estimate.asked[group]),
            "answered": int(estimate.answered[group]),
            "refused": int(estimate.refused[group]),
            "rate": float(estimate.rates[group]),
            "low": low,
            "high": high,
            "small": bool(estimate.population[group] < SMALL * members),
            "reference": group == base,
        }
        if group != base:
            row |= _against(estimate, group, base, confidence)
        if estimate.values[group] in ratios:
            finding, needed = ratios[estimate.values[group]]
            row |= {
                "ratio": finding.estimate,
                "ratio_low": finding.low,
                "ratio_high": finding.high,
                "four_fifths": finding.verdict,
                "needed": needed,
            }
        rows.append(row)
    if estimate.unknown:
        share = estimate.unknown / members
        rows.append({"group": None, "population": estimate.unknown, "share": share})
    return rows


def _ratios(
    estimate: Estimate, confidence: float, spent: int
) -> dict[str, tuple[Finding, int | None]]:
    """By group its ratio to the highest, and how many more queries would decide the rule."""
    rule, made = ImpactRatio(of_highest=True), {}
    for place, finding in enumerate(rule.findings({"all": estimate}, confidence)):
        needed = None
        if finding.verdict == "undecided":
            needed = more(rule, {"all": estimate}, place, spent, confidence, None)
        made[finding.group] = finding, needed
    return made


def _against(estimate: Estimate, group: int, base: int, confidence: float) -> dict[str, Any]:
    """A group's row as far as it compares it with the reference."""
    value, low, high = gap(estimate, group, base, confidence)
    return {
        "difference": value,
        "difference_low": low,
        "difference_high": high,
        "fisher": fisher(estimate, group, base),
    }


def fisher(estimate: Estimate, group: int, base: int) -> float:
    """Fisher's exact p of two groups' answers as they came; nan without answers of both."""
    counts = []
    for place in (group, base):
        answered = int(estimate.answered[place])
        yes = min(answered, round(float(estimate.positives[place])))
        counts.append([yes, answered - yes])
    if not all(map(sum, counts)):
        return math.nan
    return float(stats.fisher_exact(counts).pvalue)
