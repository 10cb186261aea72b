"""From vectors to weights, regimes, abstention, and the score matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hansa.base.errors import ConfigError
from hansa.route.abstaining import auroc, conformal, p_values, thresholds
from hansa.route.answering import BASE, Mixture
from hansa.route.embeddings import centroid
from hansa.route.pseudo_tasks import pseudo_tasks
from hansa.route.regimes import allowed
from hansa.route.routing import Router, mixture_of, top_k
from hansa.route.score_matrix import matrix_of, wilson

COSINES = hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 6)),
                     elements=st.floats(-1, 1))  # fmt: skip


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@given(COSINES, st.integers(1, 8), st.floats(0.01, 5))
def test_the_softmax_is_over_the_kept_alone(s: np.ndarray, k: int, temperature: float) -> None:
    kept, weights = top_k(s, k, temperature)
    assert kept.shape == (len(s), min(k, s.shape[1]))
    np.testing.assert_allclose(weights.sum(1), 1)
    for row, places, shares in zip(s, kept, weights, strict=True):
        assert len(set(places)) == len(places)
        rest = np.delete(row, places)
        assert not rest.size or rest.max() <= row[places].min()
        expected = np.exp((row[places] - row[places].max()) / temperature)
        np.testing.assert_allclose(shares, expected / expected.sum(), atol=1e-12)


@given(COSINES, st.integers(1, 6))
def test_the_temperature_goes_from_the_nearest_alone_to_equal_weights(
    s: np.ndarray, k: int
) -> None:
    kept, cold = top_k(s, k, 0)
    np.testing.assert_array_equal(cold[:, 0], 1)
    np.testing.assert_array_equal(kept[:, 0], s.argmax(1))
    _, hot = top_k(s, k, 1e9)
    np.testing.assert_allclose(hot, 1 / min(k, s.shape[1]), atol=1e-6)


def test_what_is_excluded_has_no_weight_and_all_excluded_goes_to_the_base() -> None:
    s = np.array([[0.9, -np.inf, 0.1], [-np.inf, -np.inf, -np.inf]])
    _, weights = top_k(s, 3, 0.1)
    assert weights[0, 2] == 0
    assert weights[0, :2].sum() == pytest.approx(1)
    assert not weights[1].any()
    router = Router(np.eye(3, dtype=np.float32), np.array([0, 1, 2]))
    (one,) = router.route(np.ones((1, 3)), np.ones((1, 3), bool))
    assert (one.abstained, one.mixture, one.tasks) == (True, BASE, ())


def test_weights_of_one_adapter_add_up_and_tasks_without_one_leave_theirs() -> None:
    assert mixture_of([4, 2, 4], [0.5, 0.25, 0.25]) == Mixture((4, 2), (0.75, 0.25))
    assert mixture_of([4, -1], [0.5, 0.5]) == Mixture((4,), (1.0,))
    assert mixture_of([-1], [1.0]) == BASE
    router = Router(unit(np.array([[1.0, 0], [1, 0.1], [0, 1]])), np.array([7, 7, 3]), k=2)
    (one,) = router.route(np.array([[1.0, 0.05]]))
    assert one.mixture == Mixture((7,), (1.0,))
    assert sorted(one.tasks) == [0, 1]


def test_a_vector_that_is_zero_goes_to_the_base_and_one_that_is_not_finite_is_refused() -> None:
    router = Router(np.eye(2, dtype=np.float32), np.array([0, 1]))
    assert router.route(np.zeros((1, 2)))[0].abstained
    with pytest.raises(ConfigError, match="not finite"):
        router.route(np.array([[np.nan, 1]]))
    with pytest.raises(ConfigError, match="keeps no task"):
        Router(np.eye(2, dtype=np.float32), np.array([0, 1]), k=0)
    with pytest.raises(ConfigError, match="below 0"):
        router.but(temperature=-1.0)


def matrix(means: list[list[float]], own: list[str | None], n: int = 10):  # type: ignore[no-untyped-def]
    tasks, adapters = len(means), len(means[0])
    scores = [
        np.array([[float(k < round(m * n)) for k in range(n)] for m in row], np.float32)
        for row in means
    ]
    names = [f"t{t}" for t in range(tasks)]
    return matrix_of(names, [f"a{a}" for a in range(adapters)], scores, own, [True] * tasks)


def test_ties_go_to_the_own_adapter_then_to_the_first() -> None:
    tied = matrix([[0.5, 0.8, 0.8], [0.8, 0.8, 0.1], [0.3, 0.3, 0.3]], ["a2", "zzz", None])
    assert tied.choices().tolist() == [2, 0, 0]
    assert tied.own.tolist() == [2, -1, -1]
    assert tied.best(0, {2}) == 1
    assert tied.best(0, {0, 1, 2}) == -1


def test_what_was_measured_on_more_examples_stands_before_what_was_given_up() -> None:
    given_up = matrix([[1.0, 0.6, 0.5]], [None])
    given_up.scores[0][0, 2:] = np.nan
    given_up.scores[0][2] = np.nan
    assert given_up.ranking(0).tolist() == [1, 0, 2]
    assert given_up.best(0, {0, 1}) == -1  # it was not measured at all


def test_regimes_take_away_what_they_say() -> None:
    scores = matrix([[0.9, 0.8, 0.0], [0.1, 0.9, 0.7], [0.2, 0.3, 0.0]], ["a0", "a1", "a2"])
    places = unit(np.array([[1.0, 0.1], [1, 0], [0, 1]]))
    everything = allowed("id", scores, places)
    assert not everything.excluded.any()
    assert everything.choices(scores)[0].tolist() == [0, 1, 1]
    semi = allowed("semi", scores, places)
    assert not semi.excluded.any()
    # Of task 2 all but the own adapter: never that one, whose score is 0, even in a tie.
    assert semi.choices(scores)[2].tolist() == [0, 1, 1]
    assert semi.choices(scores)[0].tolist() == [1, 1, 1]
    ood = allowed("ood", scores, places)
    np.testing.assert_array_equal(ood.excluded, np.eye(3, dtype=bool))
    assert allowed("hard", scores, places).excluded.all()


@given(st.integers(0, 30), st.integers(1, 30))
def test_wilsons_interval_holds_the_share_and_is_that_of_scipy(hits: int, n: int) -> None:
    from scipy.stats import binomtest

    hits = min(hits, n)
    low, high = wilson(np.array([hits / n]), np.array([n]))
    theirs = binomtest(hits, n).proportion_ci(method="wilson")
    assert (low[0], high[0]) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_intervals_say_nothing_of_what_was_not_measured() -> None:
    half = matrix([[0.5, 0.5]], [None])
    half.scores[0][1] = np.nan
    low, high = half.intervals()
    assert (low[0, 1], high[0, 1]) == (0, 1)
    assert 0 < low[0, 0] < 0.5 < high[0, 0] < 1


@given(st.integers(0, 10_000))
def test_few_of_a_tasks_own_queries_are_turned_away(seed: int) -> None:
    rng = np.random.default_rng(seed)
    calibration = [rng.normal(size=99)]
    level = thresholds(calibration, 0.1)[0]
    assert (calibration[0] < level).sum() == 9  # the 10th smallest of 99


def test_the_rate_of_false_alarms_is_about_alpha() -> None:
    rng = np.random.default_rng(0)
    turned_away = []
    for _ in range(200):
        rows = unit(rng.normal(size=(41, 8)) + 2)
        level = thresholds(conformal([rows[:40]]), 0.2)[0]
        turned_away.append(float(centroid(rows[:40]) @ rows[40]) < level)
    assert 0.12 < np.mean(turned_away) < 0.27
    assert thresholds([np.zeros(3)], 0.2)[0] == -np.inf  # too few to turn anyone away


def test_p_values_and_auroc_by_hand() -> None:
    calibration = [np.array([0.1, 0.2, 0.3]), np.array([0.8])]
    s = np.array([[0.25, 0.0], [0.0, 0.9], [-np.inf, -np.inf]])
    np.testing.assert_allclose(p_values(s, calibration), [3 / 4, 1.0, 0])
    assert auroc(np.array([2.0, 3]), np.array([1.0, 2])) == pytest.approx(3.5 / 4)


def test_clusters_stand_for_tasks_that_nobody_named() -> None:
    rng = np.random.default_rng(1)
    groups = [unit(rng.normal(size=(12, 5)) * 0.05 + np.eye(5)[k]) for k in range(3)]
    scores = matrix([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.5]], ["a0", "a1", "a2"], 12)
    made = pseudo_tasks(groups, scores, 3, seed=0)
    assert [len(m) for m in made.members] == [12, 12, 12]
    assert made.matrix.choices().tolist() == [0, 1, 2]
    # Half of the last task's samples nobody gets right: they say nothing, and count 0.
    assert made.matrix.means()[2].tolist() == [0, 0, 0.5]
    with pytest.raises(ConfigError, match="more than the 36"):
        pseudo_tasks(groups, scores, 37, seed=0)
