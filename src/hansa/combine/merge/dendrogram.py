"""Dendrograms: which groups of a block's versions become one, in which order, and how unlike.

FlexMerge merges the two groups whose *least* similar members are the most similar. In the language
of clustering that is complete linkage, though the published scripts call it single. All three
linkages are reducible: heights only rise, so that each block's dendrogram can be made by itself and
the greedy order over all blocks is that of the heights (Müllner, 2011, section 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

Linkage = Literal["min", "mean", "max"]
"""Which of the similarities between two groups counts: complete, average and single linkage."""
Group = tuple[int, ...]
Partition = tuple[Group, ...]


@dataclass(frozen=True)
class Merge:
    """Two groups become one.

    Attributes:
        first, second: nodes: a leaf's number, or the number of leaves plus that of a merge.
        height: 1 minus their similarity.
    """

    first: int
    second: int
    height: float


@dataclass(frozen=True)
class Dendrogram:
    """All merges of ``leaves`` leaves, from all apart to all in one.

    Attributes:
        merges: in order; heights do not fall.
    """

    leaves: int
    merges: tuple[Merge, ...]

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The leaves under every node, ascending."""
        groups: list[Group] = [(leaf,) for leaf in range(self.leaves)]
        for merge in self.merges:
            groups.append(tuple(sorted(groups[merge.first] + groups[merge.second])))
        return tuple(groups)

    @cached_property
    def stages(self) -> tuple[Partition, ...]:
        """The partition after 0, 1, ... merges, each group and the groups ascending."""
        return tuple(self._partitions())

    def _partitions(self) -> Iterator[Partition]:
        alive = dict.fromkeys(range(self.leaves))
        yield tuple(sorted(self.groups[node] for node in alive))
        for step, merge in enumerate(self.merges):
            del alive[merge.first], alive[merge.second]
            alive[self.leaves + step] = None
            yield tuple(sorted(self.groups[node] for node in alive))


def dendrogram(similarities: np.ndarray, linkage: Linkage = "min") -> Dendrogram:
    """The dendrogram of leaves with these similarities [n, n].

    Of pairs that are equally near, the one with the lowest first leaf merges first.

    Raises:
        ValueError: a similarity is not finite.
    """
    count = len(similarities)
    if not np.isfinite(similarities).all():
        raise ValueError("similarities have to be finite")
    distance = 1 - similarities.astype(np.float64)
    np.fill_diagonal(distance, np.inf)
    node, size = list(range(count)), np.ones(count)
    merges: list[Merge] = []
    for step in range(count - 1):
        one, other = sorted(divmod(int(distance.argmin()), count))
        height = float(distance[one, other])
        # Rounding of a mean may lower a height by its last digit.
        height = max(height, merges[-1].height) if merges else height
        first, second = sorted((node[one], node[other]))
        merges.append(Merge(first, second, height))
        row = _joined(distance[one], distance[other], size[one], size[other], linkage)
        distance[one], distance[:, one] = row, row
        distance[other], distance[:, other] = np.inf, np.inf
        distance[one, one] = np.inf
        node[one], size[one] = count + step, size[one] + size[other]
    return Dendrogram(count, tuple(merges))


def _joined(
    one: np.ndarray, other: np.ndarray, size: float, others: float, linkage: Linkage
) -> np.ndarray:
    """Distances [n] of the union of two groups with distances [n] each."""
    if linkage == "min":
        return np.maximum(one, other)
    if linkage == "max":
        return np.minimum(one, other)
    return (one * size + other * others) / (size + others)
