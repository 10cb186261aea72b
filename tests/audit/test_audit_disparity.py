"""Disparities: the public reports, three states, and never a verdict on nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.audit.disparity import (
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    ImpactRatio,
    MaxGap,
    impact_ratio,
    odds_ratio,
)
from hansa.audit.estimates import Estimate
from hansa.audit.group_rows import fisher
from hansa.audit.sample_size import sample_size
from hansa.audit.verdicts import Disparity
from hansa.base.component import catalogue


def counts(*pairs: tuple[int, int]) -> Estimate:
    """Groups a, b, ... of (favourable, answered)."""
    names = [chr(ord("a") + k) for k in range(len(pairs))]
    return Estimate.of_counts("race", names, [p for p, _ in pairs], [n for _, n in pairs])


def test_a_single_member_is_insufficient_evidence_and_never_fair() -> None:
    """fairness_pipeline_dev_toolkit 29: two groups of 30 all negative, one of one all positive."""
    estimates = {"all": counts((0, 30), (0, 30), (1, 1))}
    rows = {one.group: one for one in ImpactRatio().findings(estimates)}
    assert rows["c"].verdict == "undecided"
    assert rows["c"].remark.startswith("insufficient evidence: c has 1 answers")
    assert rows["b"].verdict == "undefined"
    for metric in (DemographicParity(), ImpactRatio(of_highest=True), MaxGap()):
        verdicts = {one.verdict for one in metric.findings(estimates)}
        assert verdicts <= {"undecided", "undefined"}


def test_nothing_over_nothing_is_undefined() -> None:
    """Aequitas 104: 1,000 rows all negative."""
    estimate = counts((0, 500), (0, 500))
    (ratio,) = ImpactRatio().findings({"all": estimate})
    (gap,) = DemographicParity().findings({"all": estimate})
    assert math.isnan(ratio.estimate)
    assert ratio.verdict == "undefined"
    assert gap.estimate == 0


def test_the_ratio_of_either_way_round() -> None:
    """AIF360 130: .7643312 and .1386482."""
    estimate = Estimate.of_counts("g", ("low", "high"), [86.65, 477.7], [625, 625])
    object.__setattr__(estimate, "rates", np.array([0.1386482, 0.7643312]))
    (ratio,) = ImpactRatio().findings({"all": estimate})
    (turned,) = ImpactRatio().findings({"all": estimate}, reference="high")
    (gap,) = DemographicParity().findings({"all": estimate})
    assert ratio.estimate == pytest.approx(5.5127, abs=5e-5)
    assert turned.estimate == pytest.approx(0.1814, abs=5e-5)
    assert gap.estimate == pytest.approx(0.62568, abs=5e-6)
    assert ratio.verdict == turned.verdict == "below"


def test_odds_are_not_halved_twice() -> None:
    """veritastool 52."""
    assert odds_ratio(0.8, 0.2, 0.5, 0.1) == pytest.approx(1.0 / 0.6)
    assert math.isnan(odds_ratio(0.8, 0.2, 0.0, 0.0))
    labelled = {"label 1": counts((50, 100), (80, 100)), "label 0": counts((10, 100), (20, 100))}
    (finding,) = EqualizedOdds(form="ratio").findings(labelled)
    assert finding.estimate == pytest.approx(1.0 / 0.6)


def test_the_lowest_of_three_groups_against_the_highest() -> None:
    """Fair-Code 668: lowest .134 against .216."""
    estimate = counts((216, 1000), (134, 1000), (180, 1000))
    findings = ImpactRatio(of_highest=True).findings({"all": estimate}, reference="c")
    ratios = {one.group: one.estimate for one in findings}
    assert min(ratios.values()) == pytest.approx(0.62, abs=0.001)
    assert {one.reference for one in findings} == {"a"}


def test_equal_opportunity_and_odds_look_at_true_outcomes() -> None:
    labelled = {"label 1": counts((50, 100), (80, 100)), "label 0": counts((10, 100), (60, 100))}
    (opportunity,) = EqualOpportunity().findings(labelled)
    assert opportunity.estimate == pytest.approx(0.3)
    (odds,) = EqualizedOdds().findings(labelled)
    assert odds.estimate == pytest.approx(0.5)
    assert (odds.group, odds.reference, odds.verdict) == ("b", "a", "different")


@given(
    pairs=st.lists(
        st.integers(0, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
        min_size=2,
        max_size=4,
    ),
    confidence=st.sampled_from([0.8, 0.95, 0.99]),
)
def test_intervals_hold_the_estimate_and_verdicts_follow_from_them(
    pairs: list[tuple[int, int]], confidence: float
) -> None:
    estimate = counts(*pairs)
    for name, cls in catalogue("disparity").items():
        assert issubclass(cls, Disparity)
        metric = cls()
        for one in metric.findings(dict.fromkeys(metric.domains, estimate), confidence):
            assert one.metric == name
            assert one.low <= one.high
            if not math.isnan(one.estimate):
                assert one.low - 1e-9 <= one.estimate <= one.high + 1e-9
            assert (one.verdict == "undefined") == math.isnan(one.estimate)
            if one.verdict in ("different", "below", "above", "similar"):
                assert not one.remark
            if one.verdict == "different" and "rate" in one.convention and name != "equalized_odds":
                assert one.low > 0 or one.high < 0


def test_a_census_is_decided() -> None:
    values, whole = ("a", "b"), np.array([50, 50])
    estimate = Estimate(
        "", "sex", values, whole, whole, whole, np.array([25.0, 24.0]),
        np.array([0.5, 0.48]), np.zeros(2),
    )  # fmt: skip
    (finding,) = DemographicParity().findings({"all": estimate})
    assert finding.verdict == "different"
    assert finding.low == finding.high == finding.estimate


def test_fisher_and_sample_sizes_against_known_values() -> None:
    assert fisher(counts((3, 4), (1, 4)), 0, 1) == pytest.approx(0.4857, abs=1e-4)  # the lady's tea
    assert sample_size(0.40, 0.35) == 1471
    assert sample_size(0.5, 0.5) is None
    assert impact_ratio(0.3, 0.0) == math.inf
