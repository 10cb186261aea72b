"""The spectrum against a greedy search over all pairs of all blocks, and against scipy."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.combine.merge.dendrogram import Linkage, Partition, dendrogram
from hansa.combine.merge.orders import ORDERS, course
from hansa.combine.merge.similarity import cosines, gram_matrix
from hansa.combine.merge.spectrum import Spectrum, by_height

SCIPY: dict[Linkage, str] = {"min": "complete", "mean": "average", "max": "single"}
seeds = st.integers(0, 10_000)


def random_cosines(seed: int, count: int, size: int = 5) -> np.ndarray:
    vectors = torch.from_numpy(np.random.default_rng(seed).normal(size=(count, size))).float()
    return cosines(gram_matrix(vectors))


def brute_force(blocks: list[np.ndarray]) -> tuple[list[float], list[list[set[frozenset[int]]]]]:
    """FlexMerge as it is written: at each step, all pairs of groups of all blocks."""
    groups = [[frozenset([k]) for k in range(len(b))] for b in blocks]
    heights: list[float] = []
    history = [[set(g) for g in groups]]
    while any(len(g) > 1 for g in groups):
        best, where = -np.inf, None
        for b, alike in enumerate(blocks):
            for one, other in combinations(groups[b], 2):
                least = min(alike[k, m] for k in one for m in other)
                if least > best:
                    best, where = least, (b, one, other)
        assert where is not None
        b, one, other = where
        groups[b] = [g for g in groups[b] if g not in (one, other)] + [one | other]
        heights.append(1 - best)
        history.append([set(g) for g in groups])
    return heights, history


def as_sets(partition: Partition) -> set[frozenset[int]]:
    return {frozenset(group) for group in partition}


@given(seed=seeds, counts=st.lists(st.integers(1, 8), min_size=1, max_size=4))
@settings(max_examples=40)
def test_one_pass_is_the_greedy_search_over_all_pairs(seed: int, counts: list[int]) -> None:
    blocks = [random_cosines(seed + k, count) for k, count in enumerate(counts)]
    trees = [dendrogram(alike) for alike in blocks]
    order = by_height(trees)
    stages = tuple(tree.stages for tree in trees)
    costs = tuple(tuple(range(len(s), 0, -1)) for s in stages)
    whole = Spectrum(stages, order, costs)
    heights, history = brute_force(blocks)
    assert len(order) == sum(counts) - len(counts) == len(heights)
    at = [0] * len(trees)
    for step, block in enumerate(order):
        assert trees[block].merges[at[block]].height == pytest.approx(heights[step])
        at[block] += 1
        partitions = [as_sets(s[k]) for s, k in zip(stages, whole.at(step + 1), strict=True)]
        assert partitions == history[step + 1]
    assert heights == sorted(heights)


@pytest.mark.parametrize("linkage", ["min", "mean", "max"])
@given(seed=seeds, count=st.integers(2, 12))
@settings(max_examples=25)
def test_dendrograms_are_those_of_scipy(linkage: Linkage, seed: int, count: int) -> None:
    alike = random_cosines(seed, count)
    tree = dendrogram(alike, linkage)
    distances = squareform(1 - alike, checks=False)
    expected = hierarchy.linkage(distances, SCIPY[linkage])
    heights = [merge.height for merge in tree.merges]
    np.testing.assert_allclose(heights, expected[:, 2], atol=1e-9)
    assert heights == sorted(heights)
    for k in range(1, count + 1):
        labels = hierarchy.fcluster(expected, k, "maxclust")
        assert as_sets(tree.stages[count - k]) == {
            frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels)
        }


def test_the_least_similar_members_count_and_not_the_most_similar() -> None:
    """A chain a - b - c - d: single linkage takes it whole, complete linkage breaks it."""
    alike = np.eye(4)
    for one, other, value in ((0, 1, 0.9), (1, 2, 0.8), (2, 3, 0.7), (0, 2, 0.1), (1, 3, 0.1)):
        alike[one, other] = alike[other, one] = value
    assert dendrogram(alike, "max").stages[2] == ((0, 1, 2), (3,))
    assert dendrogram(alike, "min").stages[2] == ((0, 1), (2, 3))


def test_zero_vectors_are_like_nothing_else() -> None:
    gram = gram_matrix(torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]))
    assert cosines(gram).tolist() == np.eye(3).tolist()


def test_a_gram_matrix_of_long_vectors_keeps_its_digits() -> None:
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 300_000))).float()
    exact = vectors.double() @ vectors.double().T
    np.testing.assert_allclose(gram_matrix(vectors), exact, rtol=1e-5, atol=0.05)


@pytest.mark.parametrize("order", ORDERS)
@given(seed=seeds, models=st.integers(1, 6))
@settings(max_examples=10)
def test_every_order_ends_with_one_group_a_block(order: str, seed: int, models: int) -> None:
    draws = np.random.default_rng(seed)
    versions = [sorted_versions(draws, models) for _ in range(3)]
    grams = [
        gram_matrix(torch.from_numpy(draws.normal(size=(max(of) + 1, 4))).float())
        for of in versions
    ]
    stages, steps = course(order, grams, versions, streams=Streams(seed))  # type: ignore[arg-type]
    again = course(order, grams, versions, streams=Streams(seed))  # type: ignore[arg-type]
    assert again == (stages, steps)
    for block, partitions in enumerate(stages):
        count = len(grams[block])
        assert partitions[0] == tuple((v,) for v in range(count))
        assert partitions[-1] == (tuple(range(count)),)
        assert steps.count(block) == len(partitions) - 1
        for partition in partitions:
            assert sorted(v for group in partition for v in group) == list(range(count))
        if order != "kmeans":  # whose groups are not unions of smaller ones
            for fine, coarse in pairwise(map(as_sets, partitions)):
                assert all(any(group <= union for union in coarse) for group in fine)


def sorted_versions(draws: np.random.Generator, models: int) -> list[int]:
    """Which version each model has; versions are numbered in the order in which they come."""
    numbers: dict[int, int] = {}
    return [numbers.setdefault(int(v), len(numbers)) for v in draws.integers(models, size=models)]


def test_left_to_right_finishes_a_block_before_the_next() -> None:
    grams = [np.eye(3), np.eye(2)]
    versions = [[0, 1, 2], [0, 1, 1]]
    assert course("left_right", grams, versions)[1] == (0, 0, 1)
    assert course("right_left", grams, versions)[1] == (1, 0, 0)


def test_whole_models_merge_in_all_blocks_alike() -> None:
    """Models 0 and 2 are alike over both blocks, though not in the second."""
    big = np.array([[100.0, 0, 99], [0, 100, 0], [99, 0, 100]])
    small = np.array([[1.0, 0.9, 0], [0.9, 1, 0], [0, 0, 1]])
    stages, steps = course("whole_models", [big, small], [[0, 1, 2], [0, 1, 2]])
    assert stages[0] == stages[1] == (((0,), (1,), (2,)), ((0, 2), (1,)), ((0, 1, 2),))
    assert steps == (0, 1, 0, 1)


def test_kmeans_puts_what_is_alike_together() -> None:
    vectors = torch.tensor([[1.0, 0], [0, 1], [1, 0.1], [0.1, 1], [1, -0.1]])
    stages, _ = course("kmeans", [gram_matrix(vectors)], [range(5)])
    assert ((0, 2, 4), (1, 3)) in stages[0]


@given(
    seed=seeds, counts=st.lists(st.integers(1, 5), min_size=1, max_size=4), share=st.floats(0, 1)
)
@settings(max_examples=40)
def test_a_size_within_the_budget_is_not_a_block_smaller(
    seed: int, counts: list[int], share: float
) -> None:
    sizes = np.random.default_rng(seed).integers(1, 50, size=len(counts))
    trees = [dendrogram(random_cosines(seed + k, count)) for k, count in enumerate(counts)]
    stages = tuple(tree.stages for tree in trees)
    costs = tuple(tuple(int(d) * len(p) for p in s) for d, s in zip(sizes, stages, strict=True))
    whole = Spectrum(stages, by_height(trees), costs, fixed=7)
    budget = whole.least + share * (whole.bytes[0] - whole.least)
    steps = whole.steps_within(budget)
    assert whole.bytes[steps] <= budget
    if steps:
        assert whole.bytes[steps] > budget - sizes.max()
    assert whole.bytes[steps] == 7 + sum(c[k] for c, k in zip(costs, whole.at(steps), strict=True))
    with pytest.raises(ConfigError, match=str(whole.least)):
        whole.steps_within(whole.least - 1)
