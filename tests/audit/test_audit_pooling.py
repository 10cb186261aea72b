"""What agents tell each other, and what f liars among them cannot move."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.audit.pooling import Agreed, lied, overlap, pooled
from hansa.audit.population import Agent, Asked, Population
from hansa.audit.populations.made import Made
from hansa.audit.sharing import (
    counted,
    decode_rows,
    encode_rows,
    outcome_cells,
    read_varints,
    shares,
    standing_for,
    summed,
    told,
    varints,
)
from hansa.audit.strategies import Strategy
from hansa.base.streams import Streams
from hansa.ensemble.aggregators import Aggregator, Median, TrimmedMean

EFFECTS = {"age": 0.1, "sex": -0.2}
ANSWERS = st.lists(st.sampled_from([1, 0, -1]), max_size=30)


def made(seed: int = 0, rows: int = 4000) -> Population:
    return Made(rows=rows, effects=EFFECTS, accuracy=0.8, seed=seed).read()


def agents(population: Population, budget: int = 100) -> list[Agent]:
    return [Agent(name, name, budget) for name in population.attributes]


def heard(population: Population, strategy: Strategy, who: list[Agent], seed: int) -> list[Asked]:
    assert population.answers is not None
    rows = next(strategy.queries(population, who, Streams(seed)))
    return [Asked(one, population.answers[one]) for one in rows]


def pool_of(
    strategy: Strategy,
    population: Population,
    who: list[Agent],
    reports: list[Asked],
    rule: Aggregator,
    f: int,
    confidence: float,
) -> list[Agreed]:
    together = strategy.estimate(population, who, reports)
    return pooled(strategy, population, who, reports, together, rule, f, confidence)


@given(st.lists(st.integers(0, 1 << 40)))
def test_whole_numbers_come_back(values: list[int]) -> None:
    blob = varints(np.array(values, dtype=np.int64))
    back, length = read_varints(blob, len(values))
    assert back.tolist() == values
    assert length == len(blob)


@given(ANSWERS, st.integers(0, 1 << 20))
def test_rows_and_answers_come_back(answers: list[int], first: int) -> None:
    rows = first + np.random.default_rng(len(answers)).permutation(5 * len(answers) + 1)
    asked = Asked(rows[: len(answers)].astype(np.int64), np.array(answers, dtype=np.int8))
    back = decode_rows(encode_rows(asked))
    order = np.argsort(asked.rows)
    assert back.rows.tolist() == asked.rows[order].tolist()
    assert back.answers.tolist() == asked.answers[order].tolist()


@given(st.integers(2, 6), st.lists(st.integers(0, 1 << 31), min_size=6, max_size=6))
def test_shares_add_up_and_tell_nothing_alone(m: int, counts: list[int]) -> None:
    matrix = np.array(counts).reshape(3, 2)
    dealt = shares(matrix, m)
    assert (dealt.sum(0, dtype=np.uint32) == matrix.astype(np.uint32)).all()
    total, sent = summed([matrix // m] * m)
    assert (total == (matrix // m) * m).all()
    assert sent.tolist() == [(m - 1) * 2 * 6 * 4] * m


def test_a_share_is_uniform() -> None:
    drawn = np.concatenate([shares(np.full((3, 200), 7), 3).ravel() for _ in range(5)])
    high = (drawn >> np.uint32(31)).mean()
    assert abs(high - 0.5) < 5 * 0.5 / np.sqrt(len(drawn))


@pytest.mark.parametrize("sharing", ["counts", "sums"])
@pytest.mark.parametrize("sampling", ["uniform", "stratified", "neyman"])
def test_counts_say_as_much_as_rows(sharing: str, sampling: str) -> None:
    """The estimate from counts, over all members and over those of one outcome, to the last bit."""
    population = made()
    strategy, who = Strategy(sampling=sampling, collaboration="a_priori"), agents(population)
    asked = heard(population, strategy, who, 3)
    asked[0].answers[:5] = -1
    cells, count = outcome_cells(population, population.cells(list(population.attributes)))
    counts, sent = told(sharing, cells, count, asked)
    stand_ins = [standing_for(cells, one) for one in counts]
    nobody = Asked(np.zeros(0, np.int64), np.zeros(0, np.int8))
    stand_ins += [nobody] * (len(asked) - len(stand_ins))
    for domain in (None, population.labels == 1):
        by_rows = strategy.estimate(population, who, asked, domain)
        if sharing == "counts":  # of each agent, which may name the same member
            total = sum(counted(cells, count, one) for one in asked)
            stand_ins = [standing_for(cells, total)] + [nobody] * (len(asked) - 1)
        for one, other in zip(
            by_rows, strategy.estimate(population, who, stand_ins, domain), strict=True
        ):
            np.testing.assert_array_equal(one.rates, other.rates)
            np.testing.assert_array_equal(one.variances, other.variances)
            np.testing.assert_array_equal(one.asked, other.asked)
            np.testing.assert_array_equal(one.answered, other.answered)
    assert (sent > 0).all()


def test_bytes_of_sums_do_not_tell_the_budget() -> None:
    population = made()
    cells, count = outcome_cells(population, population.cells(["age", "sex"]))
    rows = np.arange(300)
    small, large = Asked(rows[:3], np.ones(3, np.int8)), Asked(rows, np.ones(300, np.int8))
    assert len(set(told("sums", cells, count, [small, large])[1].tolist())) == 1
    assert len(set(told("rows", cells, count, [small, large])[1].tolist())) == 2


def test_where_intervals_overlap() -> None:
    spans = [(0.1, 0.4), (0.2, 0.5), (0.3, 0.6), (0.9, 1.0)]
    assert overlap(spans, 1) == (0.1, 1.0)
    assert overlap(spans, 3) == (0.3, 0.4)
    assert overlap(spans, 4) is None
    assert overlap([(0.1, 0.2), (0.2, 0.3)], 2) == (0.2, 0.2)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=7),
    st.integers(1, 7),
)
def test_overlaps_are_those_that_counting_gives(
    pairs: list[tuple[float, float]], least: int
) -> None:
    spans = [(min(pair), max(pair)) for pair in pairs]
    points = sorted({end for span in spans for end in span})
    inside = [x for x in points if sum(low <= x <= high for low, high in spans) >= least]
    expected = (inside[0], inside[-1]) if inside else None
    assert overlap(spans, least) == expected


@pytest.mark.parametrize("collaboration", ["a_posteriori", "a_priori"])
@pytest.mark.parametrize("attack", ["flip", "yes", "no"])
def test_a_liar_moves_a_mean_and_not_the_pool(collaboration: str, attack: str) -> None:
    population = made()
    assert population.answers is not None
    strategy = Strategy(sampling="stratified", collaboration=collaboration)
    who = agents(population, 700)
    asked = heard(population, strategy, who, 1)
    reports = [lied(asked[0], attack), *asked[1:]]
    names = [agent.name for agent in who]
    sex = names.index("sex")
    honest = pool_of(strategy, population, who, asked, TrimmedMean(f=1), 1, 0.95)[sex]
    pool = pool_of(strategy, population, who, reports, TrimmedMean(f=1), 1, 0.95)[sex]
    naive = strategy.estimate(population, who, reports)[sex]
    truth = [population.answers[population.attributes["sex"].codes == g].mean() for g in (0, 1)]
    assert np.abs(pool.rates - truth).max() < np.abs(naive.rates - truth).max()
    for group in (0, 1):
        low, high = pool.interval(group, 0.95)
        assert low - 0.03 <= truth[group] <= high + 0.03
    assert pool.outside(0.95) == ("age",)
    assert honest.outside(0.95) == ()
    assert np.abs(pool.rates - honest.rates).max() < 0.06


def test_more_liars_than_allowed_leave_nothing_found_or_are_named() -> None:
    population = made()
    strategy, who = Strategy(sampling="uniform", collaboration="a_posteriori"), agents(made(), 400)
    asked = heard(population, strategy, who, 1)
    reports = [lied(asked[0], "yes"), lied(asked[1], "no"), *asked[2:]]
    pool = pool_of(strategy, population, who, reports, TrimmedMean(f=1), 1, 0.95)[0]
    assert pool.torn(0.95) == ("no", "yes")
    assert np.isnan(pool.rates).all()
    assert pool.interval(0, 0.95) == (0.0, 1.0)
    both = pool_of(strategy, population, who, reports, Median(), 2, 0.95)[0]
    assert both.torn(0.95) == ()
    assert set(both.outside(0.95)) == {"age", "sex"}


def test_the_pool_holds_the_truth_as_often_as_it_says() -> None:
    """A liar in each of 16 audits: at a confidence of 90 % fewer than one in ten may miss."""
    strategy = Strategy(sampling="stratified", collaboration="a_posteriori")
    shares = {"age": 0.4, "sex": 0.5, "origin": 0.6}
    population = Made(rows=3000, attributes=shares, effects=EFFECTS).read()
    assert population.answers is not None
    who = agents(population, 60)
    codes = population.attributes["sex"].codes
    truth = [population.answers[codes == group].mean() for group in (0, 1)]
    missed, tried = 0, 0
    for seed in range(16):
        asked = heard(population, strategy, who, seed)
        liar = seed % len(who)
        reports = [lied(one, "flip") if k == liar else one for k, one in enumerate(asked)]
        pool = pool_of(strategy, population, who, reports, TrimmedMean(f=1), 1, 0.9)[1]
        assert isinstance(pool, Agreed)
        for group in (0, 1):
            low, high = pool.interval(group, 0.9)
            missed += not low <= truth[group] <= high
            tried += 1
    assert missed / tried <= 0.1
