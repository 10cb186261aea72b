"""Ratings that are not sent in vain: what digests and memory promise."""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import ConfigError, WireError
from hansa.recommend.digests import packed, unpacked

from .rated import rated_job

KEYS = st.sets(st.integers(0, 5000), max_size=120).map(
    lambda s: np.array(sorted(s), dtype=np.int64)
)


@given(mine=KEYS, theirs=KEYS, entries=st.integers(1, 200), parts=st.integers(1, 4))
@settings(max_examples=30)
def test_nobody_is_sent_what_it_has_and_nothing_is_kept_from_it_for_good(
    mine: np.ndarray, theirs: np.ndarray, entries: int, parts: int
) -> None:
    lacked = np.zeros(len(theirs), dtype=bool)
    for salt in range(4):
        found = np.zeros(len(theirs), dtype=int)
        for part in range(parts):
            digest = unpacked(packed(mine, salt, entries, part, parts), salt, part, parts)
            found += digest.lacked(theirs)
            assert not digest.lacked(mine).any()
        assert found.max(initial=0) <= 1  # no two parts have the same
        lacked |= found.astype(bool)
    assert not lacked[np.isin(theirs, mine)].any()
    if entries >= len(mine):  # all of it is covered: one in eight is not told apart, each time
        missing = ~np.isin(theirs, mine)
        assert np.count_nonzero(missing & ~lacked) <= 2 + 0.05 * np.count_nonzero(missing)


@given(st.binary(max_size=60))
@settings(max_examples=50)
def test_bytes_that_are_no_digest_are_refused(packet: bytes) -> None:
    with contextlib.suppress(WireError):
        assert unpacked(packet, 1).lacked(np.arange(50)).shape == (50,)


def test_a_digest_is_a_few_bits_an_entry() -> None:
    assert len(packed(np.arange(0, 30_000, 3), 1, 600)) < 600 * 5 / 8


@pytest.mark.parametrize("reconcile", ["none", "remembered", "digest"])
@pytest.mark.parametrize("dissemination", ["rmw", "dpsgd"])
def test_everybody_comes_to_have_everything(
    reconcile: str, dissemination: str, host: Callable[..., Any]
) -> None:
    """Though messages are lost."""
    job = rated_job(
        rounds=30,
        faults={"loss": 0.3},
        ratings=200,
        reconcile=reconcile,
        dissemination=dissemination,
        steps=0,
    )
    block, reports = host(job)
    total = (block.store.sizes - block.store.gathered).sum()
    assert (block.store.sizes == total).all()
    came, again = (
        sum(r["values"][name].sum() for r in reports if r["round"])
        for name in ("ratings_received", "duplicates")
    )
    assert came - again == block.store.gathered.sum()
    assert again == 0 or reconcile != "digest"


def test_memory_needs_neighbours_that_stay() -> None:
    with pytest.raises(ConfigError, match="does not change") as caught:
        rated_job(reconcile="remembered", topology={"name": "one_peer_exponential"})
    assert caught.value.field == "algorithm.reconcile"
