"""Poisoned ratings: what limits refuse of them, and what that is worth."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from hansa.engine import Job
from hansa.recommend.vetting import Guard

from .rated import ITEMS, rated_job

STORE = cache(lambda: rated_job().block(np.arange(6)).store)
HONEST = np.arange(2, 12)


def attacked(seed: int, liars: tuple[int, ...] = (0, 1), **guard: Any) -> Job:
    """Items differ in what all think of them; nodes 0 and 1 of 12 say the opposite."""
    job = rated_job(nodes=12, rounds=12, seed=seed, steps=200, ratings=200, guard=guard)
    split, random = job.dataset.train, np.random.default_rng(seed)
    exact = 2.75 + random.standard_normal(ITEMS)[split.inputs[:, 1].numpy()]
    noisy = exact + 0.3 * random.standard_normal(len(exact))
    targets = split.targets
    targets[:] = torch.from_numpy(np.clip(np.rint(2 * noisy) / 2, 0.5, 5))
    for liar in liars:
        part = torch.from_numpy(job.parts[liar])
        targets[part] = torch.where(targets[part] >= 3, 0.5, 5.0)
    return job


def error(host: Callable[..., Any], job: Job) -> tuple[float, Any]:
    """(RMSE of honest nodes on what they hold back, the block)."""
    block, _ = host(job)
    off = []
    for node in HONEST.tolist():
        split = job.dataset.train.take(block.held[node])
        pairs = split.inputs.numpy()
        ends = np.array([0, len(pairs)])
        told = block.trainer.module.rated(block.rows[node : node + 1], ends, pairs)
        off.append((np.clip(told, 0.5, 5) - split.targets.numpy()) ** 2)
    return float(np.sqrt(np.concatenate(off).mean())), block


def test_who_lies_does_less_harm_where_distances_are_limited(host: Callable[..., Any]) -> None:
    harmed, kept = [], []
    for seed in (1, 2):
        harmed.append(error(host, attacked(seed))[0])
        kept.append(error(host, attacked(seed, deviation=2.0))[0])
    assert np.mean(kept) < 0.98 * np.mean(harmed)


def test_few_of_the_honest_are_refused(host: Callable[..., Any]) -> None:
    job = attacked(1, (), deviation=2.0)
    _, reports = host(job)
    refused, came = (
        sum(r["values"][name].sum() for r in reports if r["round"])
        for name in ("ratings_refused", "ratings_received")
    )
    assert refused < 0.1 * came


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, ITEMS - 1)), unique=True, max_size=40),
    st.integers(1, 5),
    st.integers(0, 40),
)
def test_no_more_new_ratings_of_a_user_than_the_limit(
    pairs: list[tuple[int, int]], most: int, cut: int
) -> None:
    store = STORE()
    came = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    counts = np.array([min(cut, len(came)), max(0, len(came) - cut)])
    fine = Guard(per_user=most).accepts(store, 0, came, np.ones(len(came), np.float32), counts)
    new = store.find(0, came) < 0
    for user in range(4):
        those = new & (came[:, 0] == user)
        assert np.count_nonzero(fine & those) == min(most, np.count_nonzero(those))
    assert fine[~new].all()


def test_of_a_user_whose_ratings_conflict_nothing_is_taken_in() -> None:
    block = rated_job().block(np.arange(6))
    store = block.store
    known = store.table(0)
    user = known["inputs"][0, 0]
    other = np.array([[20, 1], [20, 2]])
    new = np.array([[user, i] for i in range(ITEMS) if [user, i] not in known["inputs"].tolist()])
    pairs = np.concatenate([known["inputs"][:1], new[:3], other])
    stars = np.concatenate([known["targets"][:1] - 1, np.ones(5)]).astype(np.float32)
    fine = Guard(conflicts=True).accepts(store, 0, pairs, stars, np.array([6]))
    assert fine.tolist() == [False] * 4 + [True] * 2
    # In another message the same are fine: it has another sender.
    fine = Guard(conflicts=True).accepts(store, 0, pairs, stars, np.array([1, 5]))
    assert fine.tolist() == [False] + [True] * 5


def test_what_is_refused_is_no_duplicate(host: Callable[..., Any]) -> None:
    block, reports = host(rated_job(guard={"per_user": 2}, rounds=5))
    sums = {
        name: sum(r["values"][name].sum() for r in reports if r["round"])
        for name in ("ratings_received", "duplicates", "ratings_refused")
    }
    assert sums["ratings_refused"] > 0
    taken = sums["ratings_received"] - sums["duplicates"] - sums["ratings_refused"]
    assert taken == block.store.gathered.sum()
