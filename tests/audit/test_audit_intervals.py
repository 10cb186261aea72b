"""Intervals: against known values, and each covers as often as it says."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.audit import intervals
from hansa.audit.betting import confidence_sequence, difference_sequence, first_decided
from hansa.audit.estimators import spread
from hansa.audit.montecarlo import MonteCarlo
from hansa.audit.population import Agent, Asked
from hansa.audit.populations.made import Made
from hansa.audit.strategies import Strategy

RATES = st.integers(0, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_wilson_and_newcombe_against_published_values() -> None:
    """Newcombe 1998, table II: 56/70 less 48/80, method 10."""
    first, second = intervals.wilson(56 / 70, 70), intervals.wilson(48 / 80, 80)
    assert first == pytest.approx((0.6918, 0.8770), abs=5e-4)
    low, high = intervals.difference(56 / 70, first, 48 / 80, second)
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=1e-4)


@given(first=RATES, second=RATES, confidence=st.sampled_from([0.5, 0.9, 0.99]))
def test_intervals_hold_what_was_seen(
    first: tuple[int, int], second: tuple[int, int], confidence: float
) -> None:
    rates, spans = [], []
    for yes, count in (first, second):
        rate = yes / count if count else math.nan
        span = intervals.wilson(rate, count, confidence)
        assert 0 <= span[0] <= span[1] <= 1
        assert not count or span[0] <= rate <= span[1]
        rates.append(rate)
        spans.append(span)
    low, high = intervals.difference(rates[0], spans[0], rates[1], spans[1])
    assert -1 <= low <= high <= 1
    below, above = intervals.ratio(rates[0], spans[0], rates[1], spans[1])
    assert 0 <= below <= above
    if first[1] and second[1] and second[0]:
        assert low <= rates[0] - rates[1] <= high
        assert below - 1e-9 <= rates[0] / rates[1] <= above + 1e-9


def test_a_known_group_is_a_point() -> None:
    assert intervals.wilson(0.3, math.inf) == (0.3, 0.3)
    assert intervals.ratio(0.3, (0.3, 0.3), 0.6, (0.6, 0.6)) == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize(
    ("sampling", "collaboration"),
    [("stratified", "none"), ("stratified", "a_posteriori"), ("neyman", "a_priori")],
)
def test_nineteen_of_twenty_intervals_hold_the_truth(sampling: str, collaboration: str) -> None:
    """2,000 audits, five attributes each: 94 to 96 in a hundred, differences and ratios."""
    made = Made(effects={"age": 0.2, "income": -0.1}, dependence=0.3).read()
    agents = [Agent(name, name, 250) for name in made.attributes]
    study = MonteCarlo(made, agents, 2000, np.random.default_rng(5))
    strategy = Strategy.model_validate({"sampling": sampling, "collaboration": collaboration})
    held = {"difference": 0, "ratio": 0}
    answered = 125 if collaboration == "none" else 625
    for place, (rates, variances) in enumerate(study.rates(strategy)):
        effective = spread(rates, np.array(answered)) / variances
        first, second = study.truth(place)
        for rate, count in zip(rates.tolist(), effective.tolist(), strict=True):
            low, high = (intervals.wilson(r, n) for r, n in zip(rate, count, strict=True))
            gap = intervals.difference(rate[1], high, rate[0], low)
            ratio = intervals.ratio(rate[1], high, rate[0], low)
            held["difference"] += gap[0] <= second - first <= gap[1]
            held["ratio"] += ratio[0] <= second / first <= ratio[1]
    assert 0.94 <= held["difference"] / 10_000 <= 0.96
    assert 0.94 <= held["ratio"] / 10_000 <= 0.96


def test_a_bootstrap_says_what_the_formula_does(ask: Callable[..., list[Asked]]) -> None:
    made = Made(rows=3000, effects={"age": 0.2, "income": -0.1}, dependence=0.3).read()
    agents = [Agent(name, name, 200) for name in made.attributes]
    strategy = Strategy()
    asked = ask(strategy, made, agents)
    estimates = strategy.estimate(made, agents, asked)
    draws = strategy.bootstrap(made, agents, asked, 400, np.random.default_rng(0))
    for estimate, rates in zip(estimates, draws, strict=True):
        gap = rates[:, 1] - rates[:, 0]
        low, high = intervals.percentiles(gap)
        assert low < estimate.difference() < high
        assert gap.std() == pytest.approx(math.sqrt(estimate.variances.sum()), rel=0.15)
    assert intervals.percentiles(np.array([math.nan])) == (-math.inf, math.inf)


@pytest.mark.parametrize("population", [None, 200])
def test_a_sequence_holds_at_every_moment(population: int | None) -> None:
    """100 audits: the truth leaves the whole sequence in at most 1 of 20 of them."""
    random = np.random.default_rng(3)
    missed = 0
    for _ in range(100):
        if population is None:
            rate, answers = 0.3, random.random(150) < 0.3
        else:
            answers = random.permutation(np.arange(population) < 60)
            rate = 0.3
        lows, highs = confidence_sequence(answers, population)
        missed += not ((lows <= rate + 1e-9) & (rate <= highs + 1e-9)).all()
        assert (np.diff(lows) >= 0).all()
        assert (np.diff(highs) <= 0).all()
    assert missed <= 10  # 5 expected at most, two deviations above
    if population is not None:
        assert highs[-1] - lows[-1] < 0.01  # all were asked; the grid has its steps


def test_a_difference_is_decided_as_soon_as_it_can_be() -> None:
    random = np.random.default_rng(1)
    groups = np.arange(2000) % 2
    answers = random.random(2000) < np.where(groups == 1, 0.75, 0.45)
    lows, highs = difference_sequence(answers, groups)
    decided = first_decided(lows, highs)
    assert decided is not None
    assert 50 < decided < 500
    assert lows[-1] <= 0.3 <= highs[-1]
    same = random.random(2000) < 0.5
    assert first_decided(*difference_sequence(same, groups)) is None
    assert first_decided(*difference_sequence(same, groups), tolerance=0.2) is not None
    assert confidence_sequence(np.zeros(0))[0].shape == (0,)
