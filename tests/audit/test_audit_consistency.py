"""Rows that several asked tell a platform that singles agents out from one that is only noisy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hansa.audit.consistency import compare
from hansa.audit.deciding import grown, more
from hansa.audit.disparity import DemographicParity, ImpactRatio
from hansa.audit.estimates import Estimate
from hansa.audit.group_rows import fisher, group_rows
from hansa.audit.pooling import Agreed
from hansa.audit.population import Asked

NAMES = ["a", "b", "c", "d"]


def platform(rng: np.random.Generator, rows: int, noise: float, favoured: str = "") -> list[Asked]:
    truth = (rng.random(rows) < 0.4).astype(np.int8)
    reports = []
    for name in NAMES:
        asked = np.sort(rng.choice(rows, rows * 2 // 3, replace=False))
        answers = truth[asked] ^ (rng.random(len(asked)) < noise)
        if name == favoured:
            answers = np.where(rng.random(len(asked)) < 0.5, 1, answers)
        reports.append(Asked(asked, answers.astype(np.int8)))
    return reports


def test_a_platform_is_consistent_noisy_or_singles_out() -> None:
    rng = np.random.default_rng(1)
    same = compare(NAMES, platform(rng, 200, 0.0), 0.95)
    assert (same.verdict, same.differ) == ("consistent", 0)
    assert same.pairs > 300
    assert same.bound == pytest.approx(1 - 0.05 ** (1 / same.pairs))
    noisy = compare(NAMES, platform(rng, 200, 0.1), 0.95)
    assert noisy.verdict == "changes its answers"
    assert noisy.differ / noisy.pairs < noisy.bound
    known = compare(NAMES, platform(rng, 200, 0.05, "c"), 0.95)
    assert known.verdict == "answers c differently"
    alone = compare(["a"], [Asked(np.arange(3), np.ones(3, np.int8))], 0.95)
    assert (alone.verdict, alone.bound) == ("not checked", 1.0)


def test_of_two_nobody_can_tell_which() -> None:
    rows = np.arange(40)
    reports = [Asked(rows, np.ones(40, np.int8)), Asked(rows, (rows % 2).astype(np.int8))]
    assert compare(["a", "b"], reports, 0.95).singled_out == ("a", "b")


def test_mere_noise_singles_nobody_out_more_often_than_the_level_says() -> None:
    rng = np.random.default_rng(0)
    named = sum(bool(compare(NAMES, platform(rng, 60, 0.2), 0.9).singled_out) for _ in range(60))
    assert named / 60 <= 0.1 + 0.1


@given(st.data())
def test_pairs_are_counted_as_one_would_by_hand(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 6))
    table = data.draw(
        st.lists(
            st.lists(st.sampled_from([None, -1, 0, 1]), min_size=size, max_size=size),
            min_size=2,
            max_size=4,
        )
    )
    reports = []
    for line in table:
        rows = [k for k, said in enumerate(line) if said is not None]
        answers = [said for said in line if said is not None]
        reports.append(Asked(np.array(rows, dtype=np.int64), np.array(answers, dtype=np.int8)))
    pairs = differ = 0
    for i in range(len(table)):
        for j in range(i):
            for mine, theirs in zip(table[i], table[j], strict=True):
                if mine in (0, 1) and theirs in (0, 1):
                    pairs += 1
                    differ += mine != theirs
    result = compare([str(k) for k in range(len(table))], reports, 0.95)
    assert (result.pairs, result.differ) == (pairs, differ)
    assert sum(one.pairs for one in result.agents) == 2 * pairs
    assert bool(result.rows) == bool(differ)


def estimate(yes: list[int], answered: list[int], population: list[int]) -> Estimate:
    count, favoured = np.array(answered), np.array(yes, dtype=float)
    rates = favoured / count
    rest = 1 - count / np.array(population)
    variances = rates * (1 - rates) / count * rest
    values = ("men", "women", "other")[: len(yes)]
    whole = (np.array(population), count, count, favoured, rates, variances)
    return Estimate("x", "sex", values, *whole, unknown=7)


def test_how_many_more_queries_would_decide() -> None:
    seen = estimate([60, 52], [120, 120], [5000, 5000])
    for metric in (DemographicParity(), ImpactRatio()):
        domains = {"all": seen}
        assert metric.findings(domains, 0.95)[0].verdict == "undecided"
        needed = more(metric, domains, 0, 240, 0.95, None)
        assert needed is not None
        enough = {"all": grown(seen, (240 + needed + 4) / 240)}
        short = {"all": grown(seen, (240 + 0.9 * needed) / 240)}
        assert metric.findings(enough, 0.95)[0].verdict != "undecided"
        assert metric.findings(short, 0.95)[0].verdict == "undecided"
    same = estimate([60, 60], [120, 120], [5000, 5000])
    everybody = more(DemographicParity(), {"all": same}, 0, 240, 0.95, None)
    assert everybody == 10_000 - 240, "a difference of nothing is known only of all"
    assert more(DemographicParity(), {"all": seen}, 0, 0, 0.95, None) is None


def test_a_pool_is_decided_by_more_queries_too() -> None:
    parts = tuple(estimate([yes, 25], [60, 60], [5000, 5000]) for yes in (28, 30, 31))
    together = estimate([89, 75], [180, 180], [5000, 5000])
    pool = Agreed(**vars(together), agents=("a", "b", "c"), alone=parts, f=1)
    metric = DemographicParity()
    assert metric.findings({"all": pool}, 0.95)[0].verdict == "undecided"
    needed = more(metric, {"all": pool}, 0, 360, 0.95, None)
    assert needed is not None
    enough = metric.findings({"all": grown(pool, (360 + needed + 4) / 360)}, 0.95)[0]
    short = metric.findings({"all": grown(pool, (360 + 0.9 * needed) / 360)}, 0.95)[0]
    assert (enough.verdict, short.verdict) == ("different", "undecided")
    assert grown(pool, 1.0).interval(0, 0.95) == pytest.approx(pool.interval(0, 0.95))


def test_never_more_than_there_are() -> None:
    seen = estimate([60, 59], [120, 120], [400, 200])
    needed = more(DemographicParity(), {"all": seen}, 0, 240, 0.95, None)
    assert needed is not None
    assert needed <= 600 - 240
    whole = grown(seen, 1e9)
    assert whole.answered.tolist() == [400, 200]
    assert whole.interval(0, 0.95) == (0.5, 0.5)


def test_rows_of_groups() -> None:
    seen = estimate([60, 20, 3], [120, 100, 6], [5000, 5000, 100])
    rows = group_rows(seen, 0.95, "women", 226)
    assert [row["group"] for row in rows] == ["women", "men", "other", None]
    assert rows[0]["reference"]
    assert "difference" not in rows[0]
    assert rows[0]["four_fifths"] == "below"
    assert rows[0]["ratio"] == 0.4
    assert "ratio" not in rows[1], "men have the highest rate, as have others; the first is taken"
    assert rows[1]["difference"] == 0.3
    table = [[60, 60], [20, 80]]
    assert rows[1]["fisher"] == stats.fisher_exact(table).pvalue == fisher(seen, 0, 1)
    assert rows[2]["small"]
    assert rows[2]["four_fifths"] == "undecided"
    assert rows[3] == {"group": None, "population": 7, "share": 7 / 10107}
