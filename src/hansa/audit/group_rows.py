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
from hansa.audit.disparity import ImpactRatio, gap, others
from hansa.audit.estimates import Estimate
from hansa.base.lazy import stats

SMALL = 0.02
"""Share of the population below which a group is called small."""


def group_rows(
    estimate: Estimate, confidence: float, reference: str | None, spent: int
) -> list[dict[str, Any]]:
    """A row for each group of an attribute, the reference first, and one for the unknown.

    ``needed`` is how many more queries would decide the four-fifths rule, if the rates stay.
    ``fisher`` is Fisher's exact p of the answers as they came, unweighted.

    Args:
        estimate: over all members.
        confidence: of the intervals.
        reference: the group that others are compared with; None = the first.
        spent: queries whose answers are in the estimate.
    """
    base, compared = others(estimate, reference)
    members = int(estimate.population.sum()) + estimate.unknown
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
            row |= _against(estimate, group, base, confidence, spent)
        rows.append(row)
    if estimate.unknown:
        share = estimate.unknown / members
        rows.append({"group": None, "population": estimate.unknown, "share": share})
    return rows


def _against(
    estimate: Estimate, group: int, base: int, confidence: float, spent: int
) -> dict[str, Any]:
    """A group's row as far as it compares it with the reference."""
    value, low, high = gap(estimate, group, base, confidence)
    rule, reference = ImpactRatio(), estimate.values[base]
    place = others(estimate, reference)[1].index(group)
    finding = rule.findings({"all": estimate}, confidence, reference)[place]
    needed = None
    if finding.verdict == "undecided":
        needed = more(rule, {"all": estimate}, place, spent, confidence, reference)
    return {
        "difference": value,
        "difference_low": low,
        "difference_high": high,
        "ratio": finding.estimate,
        "ratio_low": finding.low,
        "ratio_high": finding.high,
        "four_fifths": finding.verdict,
        "fisher": fisher(estimate, group, base),
        "needed": needed,
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
