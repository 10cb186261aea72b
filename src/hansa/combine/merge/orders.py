"""Other orders of merging, to compare the greedy one with (FlexMerge's baselines).

All give each block's stages and the order of steps. In the literature ``whole_models`` and
``kmeans`` know whole sizes only; here their steps go block by block, with those sizes among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.combine.merge.dendrogram import Dendrogram, Linkage, Merge, Partition, dendrogram
from hansa.combine.merge.similarity import cosines
from hansa.combine.merge.spectrum import by_height

Order = Literal["greedy", "left_right", "right_left", "random", "whole_models", "kmeans"]
ORDERS: tuple[str, ...] = get_args(Order)
Course = tuple[tuple[tuple[Partition, ...], ...], tuple[int, ...]]
"""Each block's stages, and the block that takes its next step, step by step."""


def course(
    order: Order,
    grams: Sequence[np.ndarray],
    versions: Sequence[Sequence[int]],
    linkage: Linkage = "min",
    streams: Streams | None = None,
) -> Course:
    """How blocks are merged in an order.

    Args:
        grams: of each block, of its versions' task vectors [n, n].
        versions: of each block, which version each model has.
        linkage: of groups that are merged by similarity.
        streams: of random choices.

    Raises:
        ConfigError: there is no such order.
    """
    streams = streams or Streams(0)
    if order == "whole_models":
        return _whole_models(grams, versions, linkage)
    if order == "kmeans":
        return _kmeans(grams, len(versions[0]) if versions else 0, streams)
    if order == "random":
        return _random([len(gram) for gram in grams], streams)
    if order not in ORDERS:
        raise ConfigError("order", order, "is unknown", f"one of {', '.join(ORDERS)}")
    trees = [dendrogram(cosines(gram), linkage) for gram in grams]
    stages = tuple(tree.stages for tree in trees)
    if order == "greedy":
        return stages, by_height(trees)
    blocks = range(len(trees)) if order == "left_right" else reversed(range(len(trees)))
    return stages, tuple(block for block in blocks for _ in trees[block].merges)


def _random(counts: Sequence[int], streams: Streams) -> Course:
    """Random pairs of groups, in blocks that are drawn at random."""
    stages = []
    for block, count in enumerate(counts):
        draws = streams.numpy("merge.pairs", node=block)
        nodes, merges = list(range(count)), []
        for step in range(count - 1):
            first, second = sorted(nodes.pop(int(draws.integers(len(nodes)))) for _ in range(2))
            merges.append(Merge(first, second, 0.0))
            nodes.append(count + step)
        stages.append(Dendrogram(count, tuple(merges)).stages)
    steps = [block for block, count in enumerate(counts) for _ in range(count - 1)]
    shuffled = streams.numpy("merge.blocks").permutation(np.array(steps, dtype=np.int64))
    return tuple(stages), tuple(int(block) for block in shuffled)


def _whole_models(
    grams: Sequence[np.ndarray], versions: Sequence[Sequence[int]], linkage: Linkage
) -> Course:
    """One dendrogram of the models, from their inner products over all blocks."""
    whole = sum(gram[np.ix_(list(of), list(of))] for gram, of in zip(grams, versions, strict=True))
    rounds = dendrogram(cosines(np.asarray(whole)), linkage).stages
    return _in_rounds(
        [
            [_of_versions(models, of, len(gram)) for models in rounds]
            for gram, of in zip(grams, versions, strict=True)
        ]
    )


def _of_versions(models: Partition, of: Sequence[int], count: int) -> Partition:
    """The finest partition of versions in which grouped models share a group."""
    home = list(range(count))
    for group in models:
        joined = {home[of[model]] for model in group}
        home = [min(joined) if place in joined else place for place in home]
    groups = {place: tuple(v for v in range(count) if home[v] == place) for place in home}
    return tuple(sorted(groups.values()))


def _kmeans(grams: Sequence[np.ndarray], models: int, streams: Streams) -> Course:
    """Spherical k-means of every block by itself, for every number of groups (Channel Merging)."""
    rounds = []
    for block, gram in enumerate(grams):
        alike, count = cosines(gram), len(gram)
        of: dict[int, Partition] = {count: tuple((v,) for v in range(count))}
        for groups in range(count - 1, 0, -1):
            of[groups] = _clusters(alike, groups, streams.numpy(f"kmeans.{groups}", node=block))
        rounds.append([of[min(count, groups)] for groups in range(models, 0, -1)])
    return _in_rounds(rounds)


def _clusters(alike: np.ndarray, groups: int, draws: np.random.Generator) -> Partition:
    """k-means++ on unit vectors that are known by their cosines alone."""
    count = len(alike)
    centres = [int(draws.integers(count))]
    for _ in range(groups - 1):
        far = np.maximum(0, 1 - alike[:, centres].max(1))
        far[centres] = 0
        free = [v for v in range(count) if v not in centres]
        total = far.sum()
        centres.append(int(draws.choice(count, p=far / total)) if total > 0 else free[0])
    home = alike[:, centres].argmax(1)
    home[centres] = np.arange(groups)  # equal vectors would leave a centre without any
    for _ in range(50):
        near = np.full((count, groups), -np.inf)
        for k in range(groups):
            mine = np.flatnonzero(home == k)
            if len(mine):
                length = np.sqrt(max(alike[np.ix_(mine, mine)].sum(), 1e-300))
                near[:, k] = alike[:, mine].sum(1) / length
        moved = near.argmax(1)
        if len(set(moved.tolist())) < groups or (moved == home).all():
            break  # a step that would empty a group is not taken: so many groups were asked for
        home = moved
    return tuple(sorted(tuple(int(v) for v in np.flatnonzero(home == k)) for k in range(groups)))


def _in_rounds(rounds: Sequence[Sequence[Partition]]) -> Course:
    """All blocks take the first step, then all take the second; equal partitions are no step."""
    stages: list[list[Partition]] = [[block[0]] for block in rounds]
    order: list[int] = []
    for stage in range(1, max((len(block) for block in rounds), default=0)):
        for number, block in enumerate(rounds):
            if block[stage] != stages[number][-1]:
                stages[number].append(block[stage])
                order.append(number)
    return tuple(tuple(block) for block in stages), tuple(order)
