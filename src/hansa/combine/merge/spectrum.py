"""The spectrum: every size from all models apart to all in one, in one pass over the blocks.

Each block goes through its stages, partitions from fine to coarse. An order says which block takes
its next step, and a table what each stage costs; a size is then a place in the order.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from hansa.base.errors import ConfigError
from hansa.combine.merge.dendrogram import Dendrogram, Partition


@dataclass(frozen=True)
class Spectrum:
    """All sizes of a set of merged models.

    Attributes:
        stages: of each block, its partitions from the first to the last.
        order: the block that takes its next step, step by step.
        costs: of each block and stage, in bytes; along a dendrogram they do not rise.
        fixed: bytes that no merge saves.
    """

    stages: tuple[tuple[Partition, ...], ...]
    order: tuple[int, ...]
    costs: tuple[tuple[int, ...], ...]
    fixed: int = 0

    @cached_property
    def bytes(self) -> tuple[int, ...]:
        """Of all models after 0, 1, ... steps."""
        at = [0] * len(self.costs)
        saved: list[int] = []
        for block in self.order:
            at[block] += 1
            saved.append(self.costs[block][at[block]] - self.costs[block][at[block] - 1])
        return tuple(accumulate(saved, initial=self.fixed + sum(c[0] for c in self.costs)))

    @property
    def least(self) -> int:
        """Bytes of the smallest size."""
        return min(self.bytes)

    def steps_within(self, budget: float) -> int:
        """The fewest steps after which all models take at most ``budget`` bytes.

        Raises:
            ConfigError: not even all steps lead there; names the least.
        """
        if budget < self.least:
            problem = f"is out of reach: the least is {self.least} bytes"
            raise ConfigError("budget", budget, problem, f"{self.least} bytes or more")
        return next(steps for steps, size in enumerate(self.bytes) if size <= budget)

    def at(self, steps: int) -> tuple[int, ...]:
        """The stage of every block after so many steps."""
        stages = [0] * len(self.stages)
        for block in self.order[:steps]:
            stages[block] += 1
        return tuple(stages)


def by_height(dendrograms: Sequence[Dendrogram]) -> tuple[int, ...]:
    """The greedy order: always the pair of groups that is most alike in all blocks.

    A heap over the blocks' next heights; of equal ones the first block's.
    """
    waiting = [
        (tree.merges[0].height, block, 0) for block, tree in enumerate(dendrograms) if tree.merges
    ]
    heapq.heapify(waiting)
    order: list[int] = []
    while waiting:
        _, block, step = waiting[0]
        order.append(block)
        merges = dendrograms[block].merges
        if step + 1 < len(merges):
            heapq.heapreplace(waiting, (merges[step + 1].height, block, step + 1))
        else:
            heapq.heappop(waiting)
    return tuple(order)
