"""Which adapter does a task best: by validation scores, measured as cheaply as one likes.

All rounds of one task use the same examples for all adapters that are still in, so that adapters
are compared on the same questions; rounds use disjoint examples and rank by the mean over all of
them so far.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from pydantic import Field

from hansa.base.component import Component, register
from hansa.base.streams import Streams


class Scorer(Protocol):
    """Answers of adapters alone on validation examples, scored; cells that are there stay."""

    @property
    def sizes(self) -> Sequence[int]:
        """Validation examples of each task."""

    @property
    def pool(self) -> int:
        """How many adapters there are."""

    def fill(self, task: int, adapters: Sequence[int], examples: Sequence[int]) -> None:
        """Measure every one of these adapters on every one of these examples."""

    def scores(self, task: int) -> np.ndarray:
        """float32 [A, n_t], NaN where nothing was measured."""


class Association(Component, kind="association"):
    """Says which cells of the score matrix are measured."""

    def run(self, scorer: Scorer, streams: Streams, names: Sequence[str]) -> None:
        """Measure what it takes to choose an adapter for every task.

        Args:
            names: of the tasks; each has its own order of examples, whatever the others are.
        """
        for task, name in enumerate(names):
            order = streams.numpy(f"association {name}").permutation(scorer.sizes[task])
            self.choose(scorer, task, order)

    @abstractmethod
    def choose(self, scorer: Scorer, task: int, order: np.ndarray) -> None:
        """Measure what it takes for one task.

        Args:
            order: int [n_t], its examples in the order in which they are used.
        """


@register("exhaustive")
class Exhaustive(Association):
    """Every adapter on every validation example, or on the first so many."""

    examples: int | None = Field(None, ge=1, description="examples a task; none: all of them")

    def choose(self, scorer: Scorer, task: int, order: np.ndarray) -> None:
        scorer.fill(task, range(scorer.pool), order[: self.examples].tolist())


@register("successive_halving", paper="Jamieson, Talwalkar", year=2016,
          url="https://arxiv.org/abs/1502.07943")  # fmt: skip
class SuccessiveHalving(Association):
    """The better half of the adapters goes on, to more examples: LORAUTER's soft start.

    Rounds of floor(b x {2.5, 2.25, 3.375, 5.0625, ...}) new examples until three are left; the
    best of those by all examples is taken. 48 adapters at b = 1 cost 210 answers a task.
    """

    budget: float = Field(4.0, gt=0, description="b, the unit of examples")

    def choose(self, scorer: Scorer, task: int, order: np.ndarray) -> None:
        alive, used = np.arange(scorer.pool), 0
        for fresh in rounds(len(alive), self.budget):
            scorer.fill(task, alive.tolist(), order[: used + fresh].tolist())
            used = min(used + fresh, len(order))
            alive = better_half(scorer.scores(task), alive, order[:used])


def rounds(pool: int, budget: float) -> list[int]:
    """New examples of each round for a pool of so many adapters, at least one each."""
    fresh = [2.5]
    size = pool
    while (size := math.ceil(size / 2)) > 3:
        fresh.append(2.25 * 1.5 ** (len(fresh) - 1))
    return [max(1, math.floor(budget * share)) for share in fresh]


def cost(pool: int, budget: float) -> int:
    """Answers that halving takes for one task with enough examples."""
    total, size = 0, pool
    for fresh in rounds(pool, budget):
        total += size * fresh
        size = math.ceil(size / 2)
    return total


def better_half(scores: np.ndarray, alive: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The half (rounded up) of the adapters with the best means on the examples seen, by index.

    Of equals at the edge the first by index go on.
    """
    means = scores[np.ix_(alive, seen)].mean(1, dtype=np.float64)
    kept = np.argsort(-means, kind="stable")[: math.ceil(len(alive) / 2)]
    return np.sort(alive[kept])


@register("screen")
class Screen(Association):
    """A few examples for all adapters, then many for the best of those: for pools of thousands."""

    first: int = Field(10, ge=1, description="examples for every adapter")
    keep: int = Field(50, ge=1, description="adapters a task that go on")
    then: int | None = Field(None, ge=1, description="examples for those; none: all of them")

    def choose(self, scorer: Scorer, task: int, order: np.ndarray) -> None:
        seen = order[: self.first]
        everyone = np.arange(scorer.pool)
        scorer.fill(task, everyone.tolist(), seen.tolist())
        means = scorer.scores(task)[:, seen].mean(1, dtype=np.float64)
        kept = np.sort(np.argsort(-means, kind="stable")[: self.keep])
        most = len(order) if self.then is None else max(self.then, self.first)
        scorer.fill(task, kept.tolist(), order[:most].tolist())
