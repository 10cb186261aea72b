"""An audit in the shape of fairlearn's MetricFrame: by group, overall, differences and ratios.

A MetricFrame's ``difference`` is the largest less the smallest group, its ``ratio`` the smallest
over the largest; ``to_overall`` compares each group with all. What is undefined is null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hansa.audit.estimates import Estimate
from hansa.audit.verdicts import Domain

_METRICS: dict[Domain, str] = {
    "all": "selection_rate",
    "label 1": "true_positive_rate",
    "label 0": "false_positive_rate",
}


def metric_frame(estimates: Mapping[Domain, Estimate]) -> dict[str, Any]:
    """The frame of one attribute.

    Args:
        estimates: over all members, and over those of each true outcome where that is known.
    """
    first = next(iter(estimates.values()))
    frame: dict[str, Any] = {
        "sensitive_features": first.attribute,
        "sensitive_levels": list(first.values),
        "by_group": {},
        "overall": {},
        "group_min": {},
        "group_max": {},
        "difference": {"between_groups": {}, "to_overall": {}},
        "ratio": {"between_groups": {}, "to_overall": {}},
    }
    for domain, estimate in estimates.items():
        name = _METRICS[domain]
        rates = [float(rate) for rate in estimate.rates]
        members = [int(count) for count in estimate.population]
        whole = sum(r * n for r, n in zip(rates, members, strict=True)) / max(1, sum(members))
        frame["by_group"][name] = {
            value: _number(rate) for value, rate in zip(first.values, rates, strict=True)
        }
        frame["overall"][name] = _number(whole)
        low, high = (limit(rates) if rates else math.nan for limit in (min, max))
        if any(math.isnan(rate) for rate in rates):
            low = high = math.nan
        frame["group_min"][name], frame["group_max"][name] = _number(low), _number(high)
        frame["difference"]["between_groups"][name] = _number(high - low)
        frame["difference"]["to_overall"][name] = _number(max(abs(r - whole) for r in rates))
        frame["ratio"]["between_groups"][name] = _number(_over(low, high))
        frame["ratio"]["to_overall"][name] = _number(
            min(min(_over(r, whole), _over(whole, r)) for r in rates)
        )
    frame["by_group"]["count"] = {
        value: int(count) for value, count in zip(first.values, first.answered, strict=True)
    }
    frame["overall"]["count"] = int(first.answered.sum())
    return frame


def _over(above: float, below: float) -> float:
    if below == 0:
        return math.nan if above == 0 else math.inf
    return above / below


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
