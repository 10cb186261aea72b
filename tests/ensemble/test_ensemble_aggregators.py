"""Aggregators: the laws of the seam, and NumPy and SciPy beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.ensemble import (
    Aggregator,
    Bucketing,
    CenteredClipping,
    CoordinateWise,
    GeometricMedian,
    Krum,
    Mean,
    Median,
    MultiKrum,
    NearestNeighborMixing,
    TrimmedMean,
    WholeRows,
)
from hansa.ensemble.aggregators import coordinate_wise

EXACT = pytest.mark.parametrize("aggregator", [Median(), TrimmedMean(f=1), TrimmedMean(f=2)])
ALL = [
    Mean(),
    Median(),
    TrimmedMean(f=0),
    TrimmedMean(f=2),
    GeometricMedian(),
    Krum(f=2),
    MultiKrum(f=1),
    MultiKrum(f=1, keep=2),
    NearestNeighborMixing(f=2, then=TrimmedMean(f=2)),
    NearestNeighborMixing(f=1, then=Krum(f=1)),
    Bucketing(size=2, then=Median()),
    Bucketing(size=3, then=GeometricMedian()),
    CenteredClipping(radius=0.7, steps=3),
]
EVERY = pytest.mark.parametrize("aggregator", ALL, ids=lambda a: a.name)

FEW = settings(max_examples=25)
"""Of each of many aggregators."""


@st.composite
def weighted_rows(draw: Any) -> tuple[torch.Tensor, np.ndarray]:
    """At least 5 rows with many ties, and weights."""
    n, size = draw(st.integers(5, 12)), draw(st.integers(1, 6))
    random = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    rows = random.standard_normal((n, size)) if draw(st.booleans()) else random.integers(
        -2, 3, (n, size)
    )  # fmt: skip
    weights = random.integers(1, 5, n) / 7 if draw(st.booleans()) else np.full(n, 1 / n)
    return torch.from_numpy(rows).float(), weights


def in_parts(
    aggregator: Aggregator, rows: torch.Tensor, weights: np.ndarray, cuts: list[int]
) -> torch.Tensor:
    state = aggregator.start(torch.zeros(rows.shape[1]))
    parts = np.split(np.arange(len(rows)), sorted(cut % len(rows) for cut in cuts))
    for part in parts:
        piece = rows[part].clone()
        aggregator.add(state, piece, weights[part])
        piece.fill_(1e9)  # what was added is the aggregator's own
    return aggregator.end(state)


def test_the_kind_has_these() -> None:
    names = {"mean", "median", "trimmed_mean", "geometric_median", "krum", "multi_krum", "nnm"}
    names |= {"bucketing", "centered_clipping", "majority_vote"}
    assert set(catalogue("aggregator")) >= names


@EVERY
@FEW
@given(weighted_rows(), st.randoms(), st.lists(st.integers(0, 11), max_size=3))
def test_neither_order_nor_split_matters(
    aggregator: Aggregator, given_: tuple[torch.Tensor, np.ndarray], random: Any, cuts: list[int]
) -> None:
    rows, weights = given_
    order = list(range(len(rows)))
    random.shuffle(order)
    whole = in_parts(aggregator, rows, weights, [])
    other = in_parts(aggregator, rows[order], weights[order], cuts)
    if isinstance(aggregator, CoordinateWise | WholeRows):
        assert torch.equal(whole, other)
    else:
        torch.testing.assert_close(whole, other, rtol=1e-5, atol=1e-6)
    # A split alone changes nothing at all: rows are taken one after the other.
    assert torch.equal(whole, in_parts(aggregator, rows, weights, cuts))


@EVERY
@FEW
@given(weighted_rows(), st.sampled_from([0.25, 2.0, 1 / 3]))
def test_weights_matter_up_to_a_factor(
    aggregator: Aggregator, given_: tuple[torch.Tensor, np.ndarray], factor: float
) -> None:
    rows, weights = given_
    torch.testing.assert_close(
        aggregator.of(rows, weights), aggregator.of(rows, factor * weights), rtol=1e-5, atol=1e-6
    )


@EVERY
@FEW
@given(weighted_rows())
def test_identical_rows_give_that_row(
    aggregator: Aggregator, given_: tuple[torch.Tensor, np.ndarray]
) -> None:
    rows, weights = given_
    same = rows[:1].repeat(len(rows), 1)
    torch.testing.assert_close(aggregator.of(same, weights), rows[0], rtol=1e-6, atol=1e-7)
    if isinstance(aggregator, Median):
        assert torch.equal(aggregator.of(same, weights), rows[0])


@EVERY
@FEW
@given(weighted_rows(), st.integers(1, 4))
def test_scales_multiply_rows(
    aggregator: Aggregator, given_: tuple[torch.Tensor, np.ndarray], seed: int
) -> None:
    rows, weights = given_
    scales = np.random.default_rng(seed).integers(1, 5, len(rows)) / 4
    state = aggregator.start(torch.zeros(rows.shape[1]))
    aggregator.add_scaled(state, rows, weights, scales)
    scaled = rows * torch.from_numpy(scales).float().unsqueeze(1)
    wanted = in_parts(aggregator, scaled, weights, [])
    torch.testing.assert_close(aggregator.end(state), wanted, rtol=1e-5, atol=1e-6)


@given(weighted_rows())
def test_numpy_and_scipy_agree(given_: tuple[torch.Tensor, np.ndarray]) -> None:
    rows, weights = given_
    n, x = len(rows), rows.double().numpy()
    alike = np.full(n, 1 / n)

    def close(found: torch.Tensor, wanted: np.ndarray) -> None:
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-6)

    close(Mean().of(rows, weights), np.average(x, axis=0, weights=weights))
    close(TrimmedMean(f=0).of(rows, weights), np.average(x, axis=0, weights=weights))
    close(Median().of(rows, alike), np.median(x, axis=0))
    for f in (1, 2):
        close(TrimmedMean(f=f).of(rows, alike), stats.trim_mean(x, (f + 0.5) / n, axis=0))


@given(weighted_rows(), st.lists(st.integers(1, 4), min_size=12, max_size=12))
def test_a_median_with_whole_weights_is_that_of_repeated_rows(
    given_: tuple[torch.Tensor, np.ndarray], counts: list[int]
) -> None:
    rows, times = given_[0], np.array(counts[: len(given_[0])])
    wanted = np.median(np.repeat(rows.double().numpy(), times, axis=0), axis=0)
    np.testing.assert_allclose(Median().of(rows, times / 9).numpy(), wanted, rtol=1e-6, atol=1e-7)


@EXACT
@given(weighted_rows(), st.sampled_from([1e30, -1e30, float("inf"), float("nan")]))
def test_bad_rows_that_are_few_stay_between_the_good(
    aggregator: CoordinateWise, given_: tuple[torch.Tensor, np.ndarray], bad: float
) -> None:
    rows = given_[0]
    few = getattr(aggregator, "f", 2)
    alike = np.full(len(rows), 1.0)
    wrong = rows.clone()
    wrong[:few] = bad
    found, good = aggregator.of(wrong, alike), rows[few:]
    assert (found >= good.min(0).values - 1e-6).all()
    assert (found <= good.max(0).values + 1e-6).all()


@EXACT
def test_columns_are_taken_some_at_a_time(
    aggregator: CoordinateWise, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, weights = torch.randn(7, 50), np.arange(1.0, 8)
    whole, widths = aggregator.of(rows, weights), []
    monkeypatch.setattr(coordinate_wise, "_CHUNK", 70)
    combine = CoordinateWise.combine

    def spied(self: CoordinateWise, rows: torch.Tensor, weights: np.ndarray) -> torch.Tensor:
        widths.append(rows.shape[1])
        return combine(self, rows, weights)

    monkeypatch.setattr(CoordinateWise, "combine", spied)
    assert torch.equal(whole, aggregator.of(rows, weights))
    assert widths == [10] * 5


def test_a_mean_keeps_one_row_however_many_come() -> None:
    mean, like = Mean(), torch.zeros(3)
    state = mean.start(like)
    for k in range(100):
        mean.add(state, torch.full((2, 3), float(k)), np.ones(2))
        assert sum(value.numel() for value in vars(state).values() if torch.is_tensor(value)) == 3
    assert torch.equal(mean.end(state), torch.full((3,), 49.5))


def test_a_mean_of_nothing_is_where_it_began() -> None:
    assert torch.equal(Mean().end(Mean().start(torch.ones(2))), torch.zeros(2))


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(ConfigError, match="f"):
        TrimmedMean.parse({"f": -1})
    with pytest.raises(ValueError, match="trimmed_mean needs 5 rows, not 4"):
        TrimmedMean(f=2).of(torch.zeros(4, 2), np.ones(4))


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**32), st.integers(1, 3))
def test_the_mean_of_a_number_is_over_those_who_hold_it(
    n: int, size: int, seed: int, calls: int
) -> None:
    """However the rows are split over calls; of what nobody holds it is 0."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((n, size)).astype(np.float32)
    weights, scales = random.random(n) + 0.1, random.random(n) + 0.5
    every = [
        None if random.random() < 0.3 else np.flatnonzero(random.random(size) < 0.5) for _ in rows
    ]
    mask = np.stack([np.ones(size) if h is None else np.isin(np.arange(size), h) for h in every])
    mean = Mean()
    state = mean.start(torch.zeros(size))
    for part in np.array_split(np.arange(n), calls):
        for k in part:
            held = None if every[k] is None else torch.from_numpy(every[k])
            one = torch.from_numpy((rows[k] * mask[k]).astype(np.float32))[None]
            mean.add_held(state, one, weights[k : k + 1], scales[k : k + 1], held)
    over = (weights[:, None] * mask).sum(0)
    total = ((weights * scales)[:, None] * mask * rows).sum(0)
    expected = np.divide(total, over, out=np.zeros(size), where=over > 0)
    np.testing.assert_allclose(mean.end(state).numpy(), expected, rtol=1e-5, atol=1e-6)
