"""Streams are named: each is the same always, and no two are alike."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.streams import SHARED, Streams

names = st.tuples(
    st.integers(-(2**63), 2**63 - 1),
    st.text(max_size=12),
    st.integers(SHARED, 2**40),
    st.integers(SHARED, 2**40),
)


@given(names, names)
def test_different_names_give_different_streams(first: tuple, second: tuple) -> None:
    keys = [Streams(seed).key(*name) for seed, *name in (first, second)]
    assert (keys[0] == keys[1]) == (first == second)


@given(names)
def test_the_same_name_gives_the_same_numbers(name: tuple) -> None:
    seed, *rest = name
    draws = [Streams(seed).numpy(*rest).random(4) for _ in range(2)]
    np.testing.assert_array_equal(*draws)
    assert 0 <= Streams(seed).integer(*rest) < 2**63


def test_a_stream_does_not_depend_on_what_was_drawn_before() -> None:
    streams = Streams(3)
    expected = streams.numpy("batches", 2, 5).random(3)
    streams.numpy("batches", 1, 5).random(100)
    np.testing.assert_array_equal(streams.numpy("batches", 2, 5).random(3), expected)


def test_streams_never_change_between_versions() -> None:
    # Numbers of a release: if these change, no earlier run can be repeated.
    assert Streams(1).key("batches", 0, 0).hex() == "302fd1ed753cc75ebcefe7566bb67cd9"
    assert Streams(1).numpy("batches", 0, 0).integers(0, 1000, 4).tolist() == [893, 104, 177, 596]
    assert Streams(1).integer("model") == 6157598058585422972


def test_nearby_streams_are_uncorrelated() -> None:
    streams = Streams(0)
    drawn = np.stack([streams.numpy("noise", i // 20, i % 20).random(500) for i in range(400)])
    correlation = np.corrcoef(drawn)[~np.eye(400, dtype=bool)]
    assert np.abs(correlation).max() < 0.27  # six standard deviations
    assert abs(correlation.std() - 500**-0.5) < 0.005
