"""The knapsack over blocks against every choice there is; the ledger against its closed form."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import ConfigError
from hansa.combine.merge.byte_ledger import Accounting, BlockSize, Ledger
from hansa.combine.merge.dendrogram import Partition, dendrogram
from hansa.combine.merge.finer_stages import finer_stages
from hansa.combine.merge.selection import select
from hansa.combine.merge.similarity import cosines


def random_cosines(seed: int, count: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, 5))
    return cosines(vectors @ vectors.T)


def brute_force(costs: list[list[int]], losses: list[list[float]], budget: int) -> float:
    return min(
        sum(row[k] for row, k in zip(losses, stages, strict=True))
        for stages in product(*(range(len(c)) for c in costs))
        if sum(c[k] for c, k in zip(costs, stages, strict=True)) <= budget
    )


blocks = st.lists(
    st.lists(st.tuples(st.integers(0, 60), st.floats(0, 100)), min_size=1, max_size=5),
    min_size=1,
    max_size=5,
)


@given(table=blocks, share=st.floats(0, 1.2))
@settings(max_examples=150)
def test_no_choice_within_the_budget_loses_less(
    table: list[list[tuple[int, float]]], share: float
) -> None:
    costs = [[c for c, _ in block] for block in table]
    losses = [[loss for _, loss in block] for block in table]
    least, most = sum(map(min, costs)), sum(map(max, costs))
    budget = int(least + share * (most - least))
    chosen = select(costs, losses, budget)
    best = brute_force(costs, losses, budget)
    assert chosen.bytes <= budget
    assert chosen.loss == pytest.approx(best, rel=1e-9, abs=1e-9)
    assert chosen.exact
    assert chosen.bound <= best + 1e-9


@given(table=blocks, share=st.floats(0, 1))
@settings(max_examples=60)
def test_with_few_states_the_bound_still_holds(
    table: list[list[tuple[int, float]]], share: float
) -> None:
    costs = [[c for c, _ in block] for block in table]
    losses = [[loss for _, loss in block] for block in table]
    least, most = sum(map(min, costs)), sum(map(max, costs))
    budget = int(least + share * (most - least))
    chosen = select(costs, losses, budget, states=1)
    best = brute_force(costs, losses, budget)
    assert chosen.bytes <= budget
    assert chosen.bound <= best + 1e-9 <= chosen.loss + 2e-9
    assert not chosen.exact or chosen.loss == pytest.approx(best, abs=1e-9)


def test_many_blocks_are_exact_and_quick() -> None:
    draws = np.random.default_rng(0)
    costs, losses = [], []
    for size in draws.integers(1000, 600_000, size=100):
        costs.append([int(size) * k for k in range(8, 0, -1)])
        losses.append([0.0, *np.cumsum(np.sort(draws.uniform(size=7))).tolist()])
    chosen = select(costs, losses, int(0.4 * sum(c[0] for c in costs)))
    assert chosen.exact
    assert chosen.bound == chosen.loss


def test_a_budget_out_of_reach_names_the_least() -> None:
    with pytest.raises(ConfigError, match="the least is 5 bytes"):
        select([[9, 2], [3]], [[0, 1], [0]], 4)


def closed_form(partition: Partition) -> float:
    """Spec of FlexMerge's masked sizes, in blocks of 32-bit numbers."""
    big = [len(g) for g in partition if len(g) > 2]
    small = sum(len(g) for g in partition if len(g) <= 2)
    return small + sum(1 + n / 32 for n in big) + (1 if big else 0)


@given(seed=st.integers(0, 10_000), count=st.integers(1, 12))
@settings(max_examples=40)
def test_masked_bytes_have_the_closed_form(seed: int, count: int) -> None:
    numbers = 64 * 1000
    size = BlockSize(numbers, 4 * numbers)
    stages = dendrogram(random_cosines(seed, count)).stages
    costs = Accounting(masked=True).costs(stages, size)
    for cost, partition in zip(costs, stages, strict=True):
        assert cost / size.bytes == pytest.approx(closed_form(partition))
    assert list(costs) == sorted(costs, reverse=True)
    scaled = Accounting(masked=True, scaled=True).costs(stages, size)
    for one, other, partition in zip(costs, scaled, stages, strict=True):
        assert other - one == 4 * sum(len(g) for g in partition if len(g) > 2)


@pytest.mark.parametrize(("models", "least"), [(8, 2.25), (11, 2.34375), (30, 2.9375)])
def test_the_least_masked_sizes(models: int, least: float) -> None:
    size = BlockSize(3200, 12_800)
    whole = Accounting(masked=True).ledger((tuple(range(models)),), size)
    assert whole.total / size.bytes == least
    half = Accounting(masked=True).ledger((tuple(range(models)),), BlockSize(3200, 6400))
    assert half.total / 6400 == 2 + models / 16  # a mask is as large beside half the bytes


def test_plain_bytes_are_one_vector_a_group() -> None:
    size = BlockSize(10, 40)
    assert Accounting().ledger(((0, 2), (1,)), size) == Ledger(own=40, shared=40)
    assert Accounting().costs((((0,), (1,)), ((0, 1),)), size) == (80, 40)


@given(
    numbers=st.integers(1, 40), item=st.sampled_from([2, 4]), seed=st.integers(0, 10_000),
    count=st.integers(1, 9), scaled=st.booleans(),
)  # fmt: skip
@settings(max_examples=60)
def test_masks_are_never_dearer_than_the_versions_and_merges_never_cost(
    numbers: int, item: int, seed: int, count: int, scaled: bool
) -> None:
    size = BlockSize(numbers, numbers * item)
    stages = dendrogram(random_cosines(seed, count)).stages
    costs = Accounting(masked=True, scaled=scaled).costs(stages, size)
    assert costs[0] == count * size.bytes
    assert list(costs) == sorted(costs, reverse=True)


@given(
    numbers=st.sampled_from([3, 40, 6400]), item=st.sampled_from([2, 4]),
    seed=st.integers(0, 10_000), count=st.integers(2, 12), scaled=st.booleans(),
)  # fmt: skip
@settings(max_examples=60)
def test_no_step_saves_more_than_a_block(
    numbers: int, item: int, seed: int, count: int, scaled: bool
) -> None:
    size, counting = BlockSize(numbers, numbers * item), Accounting(masked=True, scaled=scaled)
    stages = dendrogram(random_cosines(seed, count)).stages
    steps = finer_stages(stages, counting, size)
    assert tuple(step[-1] for step in steps) == stages[1:]
    every = [stages[0], *(stage for step in steps for stage in step)]
    costs = counting.costs(every, size)
    for (before, after), (cost, less) in zip(pairwise(every), pairwise(costs), strict=True):
        paid = counting.ledger(before, size).base  # by another masked group
        assert 0 <= cost - less <= (2 if paid else 1) * size.bytes
        assert sorted(v for group in after for v in group) == list(range(count))
        fine, coarse = stored(before, counting, size), stored(after, counting, size)
        assert all(any(group <= union for union in coarse) for group in fine)
    plain = finer_stages(stages, Accounting(), size)
    assert plain == tuple((stage,) for stage in stages[1:])


def stored(partition: Partition, counting: Accounting, size: BlockSize) -> set[frozenset[int]]:
    """What is stored as one."""
    merged = {frozenset(g) for g in partition if counting.merges(g, size)}
    return merged | {frozenset([v]) for g in partition if not counting.merges(g, size) for v in g}
