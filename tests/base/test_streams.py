"""Streams are named: each is the same always, and no two are alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.streams import LEAST_SECRET, SHARED, Streams

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


secrets = st.binary(min_size=LEAST_SECRET, max_size=100)


@given(st.integers(-(2**63), 2**63 - 1))
def test_without_a_secret_own_streams_are_the_shared_ones(seed: int) -> None:
    streams = Streams(seed)
    assert streams.own is streams
    assert not streams.private


@given(secrets, secrets, names)
def test_own_streams_follow_from_the_secret_and_shared_ones_do_not(
    first: bytes, second: bytes, name: tuple
) -> None:
    seed, *rest = name
    one, again, other = Streams(seed, first), Streams(seed, first), Streams(seed, second)
    assert one.private
    assert one.own.private
    assert one.own.own is one.own
    assert one.key(*rest) == other.key(*rest) == Streams(seed).key(*rest)
    assert one.own.key(*rest) == again.own.key(*rest)
    assert (one.own.key(*rest) == other.own.key(*rest)) == (first == second)
    assert one.own.key(*rest) != one.key(*rest)
    np.testing.assert_array_equal(one.own.numpy(*rest).random(3), again.own.numpy(*rest).random(3))


@given(secrets, names, names)
def test_own_streams_of_different_names_differ(secret: bytes, first: tuple, second: tuple) -> None:
    keys = [Streams(seed, secret).own.key(*name) for seed, *name in (first, second)]
    assert (keys[0] == keys[1]) == (first == second)


def test_a_secret_is_not_shown_and_not_short() -> None:
    secret = b"nobody shall see this one"
    streams = Streams(1, secret)
    for text in (repr(streams), str(streams.own), repr(vars(streams)), repr(vars(streams.own))):
        assert "nobody" not in text
    with pytest.raises(ValueError, match="a secret of 15 bytes"):
        Streams(1, b"x" * 15)
