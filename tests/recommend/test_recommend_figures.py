"""Rankings and errors, held against plain loops and published vectors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.engine.own_judge import Tallies, Tally
from hansa.recommend.evaluation.own_figures import RANKED, UNIT, Measuring, tally
from hansa.recommend.evaluation.ranking import discounts, ranking_figures, sampled_figures, top
from hansa.recommend.evaluation.ratings_judge import RatingsJudge

ITEMS = 7


def naive_ranking(
    scores: np.ndarray, seen: set[int], relevant: dict[int, float], k: int
) -> dict[str, float]:
    """One user's figures by sorting all items in a list."""
    order = sorted((i for i in range(len(scores)) if i not in seen), key=lambda i: (-scores[i], i))[
        :k
    ]
    gains = [relevant.get(i, 0.0) for i in order]
    best = sorted(relevant.values(), reverse=True)[:k]
    dcg = sum(g / math.log2(r + 2) for r, g in enumerate(gains))
    first = next((r for r, g in enumerate(gains) if g), None)
    return {
        "ndcg": dcg / sum(g / math.log2(r + 2) for r, g in enumerate(best)),
        "hr": float(any(gains)),
        "recall": sum(g > 0 for g in gains) / len(relevant),
        "precision": sum(g > 0 for g in gains) / k,
        "mrr": 0.0 if first is None else 1 / (first + 1),
    }


@pytest.mark.parametrize(("listed", "wanted"), [([1, 2], 8 / 9), ([2, 3, 1], 1.0)])
def test_the_vector_of_lenskits_issue_309(listed: list[int], wanted: float) -> None:
    """Truth 1: 3, 2: 5, 3: 4 at k = 2 with the discount of Järvelin and Kekäläinen."""
    relevant, gains = np.array([1, 2, 3]), np.array([3.0, 5.0, 4.0])
    found = ranking_figures(np.array(listed[:2]), relevant, gains, discounts(2, "rank"))
    assert found["ndcg"] == pytest.approx(wanted, abs=1e-12)
    assert round(8 / 9, 4) == 0.8889


def test_discounts() -> None:
    assert discounts(4, "rank_plus_one") == pytest.approx(
        [1, 1 / math.log2(3), 0.5, 1 / math.log2(5)]
    )
    assert discounts(4, "rank") == pytest.approx([1, 1, 1 / math.log2(3), 0.5])


@settings(max_examples=80)
@given(
    st.lists(st.integers(0, 3), min_size=ITEMS, max_size=ITEMS),
    st.sets(st.integers(0, ITEMS - 1), max_size=5),
    st.integers(1, 9),
)
def test_the_top_is_that_of_sorting_all_with_ties_by_item(
    values: list[int], masked: set[int], k: int
) -> None:
    scores = np.array(values, np.float32)
    scores[list(masked)] = -np.inf
    wanted = sorted(set(range(ITEMS)) - masked, key=lambda i: (-scores[i], i))[:k]
    assert top(scores[None], k)[0].tolist() == wanted + [-1] * (k - len(wanted))


def test_what_is_no_number_is_never_recommended() -> None:
    assert top(np.array([[np.nan, 1.0, -np.inf, 2.0]]), 4)[0].tolist() == [3, 1, -1, -1]


@st.composite
def nodes_of_ratings(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pairs = [(u, i) for u in range(4) for i in range(ITEMS)]
    chosen = draw(st.lists(st.sampled_from(pairs), min_size=3, max_size=20, unique=True))
    cut = draw(st.integers(1, len(chosen) - 1))
    stars = draw(
        st.lists(st.integers(1, 5), min_size=len(chosen) - cut, max_size=len(chosen) - cut)
    )
    return np.array(chosen[:cut]), np.array(chosen[cut:]), np.array(stars, np.float32)


@settings(max_examples=60)
@given(nodes_of_ratings(), st.integers(0, 2**20), st.sampled_from([None, 3.0]), st.booleans())
def test_sums_are_those_of_plain_loops(
    data: tuple[np.ndarray, np.ndarray, np.ndarray],
    seed: int,
    relevant_from: float | None,
    by_stars: bool,
) -> None:
    trained, tested, stars = data
    table = np.random.default_rng(seed).integers(2, 11, (4, ITEMS)) / 2  # with ties
    how = Measuring(3, relevant_from, by_stars)
    found = tally(
        lambda pairs: table[pairs[:, 0], pairs[:, 1]],
        lambda users: table[users],
        trained,
        tested,
        stars,
        ITEMS,
        how,
    )
    errors = [s - table[u, i] for (u, i), s in zip(tested.tolist(), stars.tolist(), strict=True)]
    assert found.sums["ratings"] == len(errors)
    assert found.sums["squares"] == pytest.approx(sum(e * e for e in errors))
    assert found.sums["sizes"] == pytest.approx(sum(map(abs, errors)))
    by_user: dict[int, list[float]] = {}
    for (u, _), e in zip(tested.tolist(), errors, strict=True):
        by_user.setdefault(u, []).append(e)
    rmse = sum(math.sqrt(sum(e * e for e in own) / len(own)) for own in by_user.values())
    assert found.sums["user_rmse"] == pytest.approx(rmse)
    cold = {u for u in by_user if u not in trained[:, 0]}
    assert found.sums["cold_users"] == len(cold)
    assert found.sums["cold_squares"] == pytest.approx(sum(e * e for u in cold for e in by_user[u]))
    assert (found.counts["squares"] / UNIT).sum() == pytest.approx(sum(e * e for e in errors))
    totals, users = dict.fromkeys(RANKED, 0.0), 0
    for user in by_user:
        relevant = {
            i: float(s) if by_stars else 1.0
            for (u, i), s in zip(tested.tolist(), stars.tolist(), strict=True)
            if u == user and (relevant_from is None or s >= relevant_from)
        }
        if not relevant:
            continue
        users += 1
        seen = {i for u, i in trained.tolist() if u == user}
        for name, value in naive_ranking(table[user], seen, relevant, 3).items():
            totals[name] += value
    assert found.sums["ranked_users"] == users
    for name, value in totals.items():
        assert found.sums[name] == pytest.approx(value), name


def tallies_of(parts: list[Tally]) -> Tallies:
    return Tallies(
        {name: np.array([one.sums[name] for one in parts]) for name in parts[0].sums},
        {name: sum(one.counts[name] for one in parts) for name in parts[0].counts},
    )


def test_figures_of_all_are_those_of_the_whole_however_it_is_divided() -> None:
    rng = np.random.default_rng(3)
    table = rng.normal(3, 1, (6, ITEMS))
    pairs = np.array([(u, i) for u in range(6) for i in range(ITEMS)])[rng.permutation(6 * ITEMS)]
    trained, tested = pairs[:20], pairs[20:]
    stars = rng.integers(1, 6, len(tested)).astype(np.float32)
    judge = RatingsJudge(k=2)

    def part(users: list[int]) -> Tally:
        mine = np.isin(tested[:, 0], users)
        return tally(
            lambda p: table[p[:, 0], p[:, 1]],
            lambda u: table[u],
            trained[np.isin(trained[:, 0], users)],
            tested[mine],
            stars[mine],
            ITEMS,
            Measuring(2),
        )

    whole = judge.figures(tallies_of([part([*range(6)])]))
    apart = judge.figures(tallies_of([part([0, 5]), part([1, 2]), part([3, 4])]))
    assert apart == pytest.approx(whole)
    errors = stars - table[tested[:, 0], tested[:, 1]]
    assert whole["rmse_pooled"] == pytest.approx(np.sqrt(np.mean(errors**2)))
    assert whole["mae_pooled"] == pytest.approx(np.mean(np.abs(errors)))
    assert set(whole) >= {"ndcg@2", "hr@2", "recall@2", "precision@2", "mrr@2", "coverage@2"}
    node = judge.by_node(tallies_of([part([0, 5]), part([1, 2]), part([3, 4])]))
    mine = np.isin(tested[:, 0], [1, 2])
    assert node["rmse"][1] == pytest.approx(np.sqrt(np.mean(errors[mine] ** 2)))


def test_coverage_and_novelty_of_the_most_popular() -> None:
    trained = np.array([[0, 0], [1, 0], [2, 0], [0, 1]])
    tested = np.array([[1, 2], [2, 3]])
    counts = np.array([3.0, 1, 0, 0, 0, 0, 0])
    found = tally(
        lambda pairs: np.zeros(len(pairs)), lambda users: np.tile(counts, (len(users), 1)),
        trained, tested, np.ones(2, np.float32), ITEMS, Measuring(1),
    )  # fmt: skip
    figures = RatingsJudge(k=1).figures(tallies_of([found]))
    assert figures["coverage@1"] == 1 / ITEMS  # item 1 for both
    assert figures["novelty@1"] == pytest.approx(-math.log2((1 + 1) / (3 + 1)))
    assert figures["cold_items"] == 2
    assert figures["rmse_cold_items"] == pytest.approx(1, abs=1e-5)
    assert figures["hr@1"] == 0


def test_sampled_figures_bear_their_name_and_are_the_same_each_time() -> None:
    scores = np.arange(50.0)
    args = (scores, np.array([49, 10]), np.array([49, 10, 3]), 20, 10, "rank_plus_one")
    one, two = (sampled_figures(*args, np.random.default_rng(1)) for _ in range(2))  # type: ignore[arg-type]
    assert one == two
    assert one["hr"] in (0.5, 1.0)  # item 49 beats all others
    trained, tested = np.array([[0, 3]]), np.array([[0, 49], [0, 10]])
    found = tally(
        lambda pairs: np.zeros(len(pairs)), lambda users: np.tile(scores, (len(users), 1)),
        trained, tested, np.ones(2, np.float32), 50, Measuring(sampled=99),
    )  # fmt: skip
    figures = RatingsJudge(sampled=99).figures(tallies_of([found]))
    assert "ndcg@10_sampled99" in figures
    assert figures["hr@10"] == 1
    assert figures["hr@10_sampled99"] == 0.5  # of 47 others 39 are ahead of item 10


def test_models_that_diverged_have_no_figures_but_break_nothing() -> None:
    pairs = np.array([[0, 0], [0, 1]])
    found = tally(
        lambda p: np.array([np.nan]), lambda users: np.full((len(users), 3), np.nan),
        pairs[:1], pairs[1:], np.ones(1, np.float32), 3, Measuring(2),
    )  # fmt: skip
    figures = RatingsJudge(k=2).figures(tallies_of([found]))
    assert math.isnan(figures["rmse_pooled"])
    assert figures["precision@2"] == 0
