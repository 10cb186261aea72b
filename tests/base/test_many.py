"""Arrays of very many nodes: the numbers of NumPy, in the memory of those who have something."""

import mmap
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hansa.base import few, many
from hansa.base.few import Few

figures = st.floats(-1e9, 1e9, allow_subnormal=False)


@given(st.integers(1, 3000), st.dictionaries(st.integers(0, 2999), figures, min_size=1))
def test_few_figures_are_an_array_of_nan_to_the_bit(n: int, given: dict[int, float]) -> None:
    own = {place % n: value for place, value in given.items()}
    some, whole = Few(n), np.full(n, np.nan)
    some[list(own)] = list(own.values())
    whole[list(own)] = list(own.values())
    assert np.array_equal(np.asarray(some), whole, equal_nan=True)
    assert few.mean(some) == np.nanmean(whole)
    assert few.std(some) == np.nanstd(whole)
    for one, other in zip(few.known(some), few.known(whole), strict=True):
        assert np.array_equal(one, other)
    assert all(some[k] == own[k] if k in own else np.isnan(some[k]) for k in range(min(n, 50)))


PLACES = st.one_of(
    st.integers(-10, 9),
    st.lists(st.integers(-10, 9), max_size=4),
    st.slices(10),
    arrays.arrays(bool, 10),
)


@given(st.lists(st.tuples(PLACES, figures), max_size=4), PLACES)
def test_places_are_those_that_numpy_takes(puts: list[tuple[Any, float]], asked: Any) -> None:
    some, whole = Few(10), np.full(10, np.nan)
    for places, value in puts:
        some[places] = value
        whole[places] = value
    assert np.array_equal(np.asarray(some), whole, equal_nan=True)
    assert np.array_equal(some[asked], whole[asked], equal_nan=True)


@pytest.mark.parametrize("wrong", [10, -11, [0, 10], [0.5], [True, False], "all"])
def test_places_that_there_are_not_are_refused(wrong: Any) -> None:
    some, whole = Few(10), np.full(10, np.nan)
    for figures in (some, whole):
        with pytest.raises(IndexError):
            figures[wrong] = 1.0
    assert not len(some.at)


def test_nobody_has_no_mean() -> None:
    assert np.isnan(few.mean(Few(9)))
    assert np.isnan(few.std(Few(9)))


@given(st.lists(st.tuples(st.integers(0, 9), figures), max_size=8))
def test_figures_that_come_twice_are_the_larger_as_fmax_has_it(
    puts: list[tuple[int, float]],
) -> None:
    some, whole = Few(10), np.full(10, np.nan)
    for place, value in puts:
        some.put(place, value, np.fmax)
        whole[place] = np.fmax(whole[place], value)
    assert np.array_equal(np.asarray(some), whole, equal_nan=True)


@given(
    arrays.arrays(np.int64, 40, elements=st.integers(-2, 2)),
    arrays.arrays(np.int64, 40, elements=st.integers(-2, 2)),
    st.sampled_from([1, many.MANY]),
)
def test_counters_count_whatever_their_length(
    start: np.ndarray, more: np.ndarray, limit: int
) -> None:
    before = many.MANY
    many.MANY = limit
    try:
        counter = torch.from_numpy(many.copied(start))
        many.add_(counter, more)
        assert np.array_equal(counter.numpy(), start + more)
        assert np.array_equal(many.differ(counter.numpy(), start), np.flatnonzero(more))
        at = np.abs(start)
        assert np.array_equal(many.tally(at, 3), np.bincount(at, minlength=3))
        weighed = np.bincount(at, weights=more, minlength=3).astype(np.int64)
        assert np.array_equal(many.tally(at, 3, more), weighed)
    finally:
        many.MANY = before


def test_a_kernel_without_huge_pages_has_counters_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(mmap.mmap):
        def madvise(self, *advice: int) -> None:
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(mmap, "mmap", Refusing)
    assert not many.zeros(many.MANY).any()


@pytest.mark.skipif(sys.platform != "linux", reason="counts pages as Linux says")
def test_counters_take_the_memory_of_those_who_counted() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    n = 1 << 24
    before = resident()
    counter = many.counter(n)
    some = np.arange(0, n, n // 50)
    counter.numpy()[some] += 1
    many.copied(counter.numpy())
    assert int(counter.sum()) == len(some)
    assert resident() - before < n  # of 8 n bytes, and as many for the copy
