"""Allocations are optimal for whole numbers, within floors and caps."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hansa.audit.allocation import equal, optimal, with_overflow

STRATA = st.lists(st.tuples(st.floats(0.01, 5.0), st.integers(1, 12)), min_size=1, max_size=4)


@given(strata=STRATA, total=st.integers(1, 20))
def test_as_good_as_the_best_of_all(strata: list[tuple[float, int]], total: int) -> None:
    weights = np.array([weight for weight, _ in strata])
    caps = np.array([cap for _, cap in strata])
    total = min(max(total, len(strata)), int(caps.sum()))
    counts = optimal(weights, total, caps, 1)
    assert counts.sum() == total
    assert ((counts >= 1) & (counts <= caps)).all()
    ranges = [range(1, cap + 1) for cap in caps]
    best = min((weights / np.array(n)).sum() for n in product(*ranges) if sum(n) == total)
    assert (weights / counts).sum() <= best * (1 + 1e-9)


@given(
    strata=STRATA,
    total=st.integers(0, 60),
    floors=st.lists(st.integers(0, 3), min_size=4, max_size=4),
)
def test_the_whole_total_within_floors_and_caps(
    strata: list[tuple[float, int]], total: int, floors: list[int]
) -> None:
    weights = np.array([weight for weight, _ in strata])
    caps = np.array([cap for _, cap in strata])
    least = np.minimum(np.array(floors[: len(strata)]), caps)
    counts = optimal(weights, total, caps, least)
    assert counts.sum() == min(total, caps.sum())
    assert (counts <= caps).all()
    if least.sum() <= min(total, caps.sum()):
        assert (counts >= least).all()


@given(strata=STRATA, total=st.integers(1, 40))
def test_many_at_once_are_each_alone(strata: list[tuple[float, int]], total: int) -> None:
    weights = np.array([weight for weight, _ in strata])
    caps = np.array([cap for _, cap in strata])
    rows = np.stack([weights, weights[::-1], np.ones_like(weights)])
    together = optimal(rows, total, caps)
    for row, counts in zip(rows, together, strict=True):
        assert (optimal(row, total, caps) == counts).all()


def test_equal_shares_and_what_is_left_over() -> None:
    assert equal(10, np.array([50, 50, 50])).tolist() == [4, 3, 3]
    assert equal(10, np.array([2, 50, 50])).tolist() == [2, 4, 4]
    assert optimal(np.array([1.0, 0.0]), 5, np.array([3, 9])).tolist() == [3, 2]


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    each=st.integers(0, 6),
    seed=st.integers(0, 99),
)
def test_the_published_overflow_uses_what_there_is(sizes: list[int], each: int, seed: int) -> None:
    wanted = np.full(len(sizes), each)
    counts = with_overflow(wanted, np.array(sizes), np.random.default_rng(seed))
    assert (counts <= sizes).all()
    assert (counts >= np.minimum(wanted, sizes)).all()
    assert counts.sum() == min(each * len(sizes), sum(sizes))
