"""How well each adapter does each task alone, how surely, and which one a task takes.

P[t, a] is the mean score of adapter a on the validation examples of task t (LORAUTER). Adapters
that were measured on more examples stand before those that were given up earlier: halving and
screening give up what does worse.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

Z = 1.959963984540054
"""The 97.5 % point of the normal distribution."""


@dataclass(frozen=True)
class ScoreMatrix:
    """Scores of adapters on validation examples.

    Attributes:
        tasks: T names.
        adapters: A names.
        scores: of each task float32 [A, n_t], NaN: not measured; not to be changed afterwards.
        own: int [T], the adapter that was trained on the task, -1: none.
        binary: of each task whether its scores are 0 or 1.
    """

    tasks: tuple[str, ...]
    adapters: tuple[str, ...]
    scores: tuple[np.ndarray, ...]
    own: np.ndarray
    binary: tuple[bool, ...]

    def counts(self) -> np.ndarray:
        """int [T, A]: on how many examples each cell rests."""
        return self._counts

    def means(self) -> np.ndarray:
        """float64 [T, A]; NaN where nothing was measured."""
        return self._means

    @cached_property
    def _counts(self) -> np.ndarray:
        return np.stack([np.isfinite(rows).sum(1) for rows in self.scores])

    @cached_property
    def _means(self) -> np.ndarray:
        sums = np.stack([np.nansum(rows, axis=1, dtype=np.float64) for rows in self.scores])
        return np.where(self._counts > 0, sums / np.maximum(self._counts, 1), np.nan)

    def intervals(self) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) float64 [T, A] of the means, at 95 %; (0, 1) where nothing was measured.

        Of scores of 0 and 1 Wilson's (1927), of others the normal one, cut at 0 and 1.
        """
        means, counts = np.nan_to_num(self.means()), self.counts()
        low, high = np.zeros_like(means), np.ones_like(means)
        for t, (rows, binary) in enumerate(zip(self.scores, self.binary, strict=True)):
            n = np.maximum(counts[t], 1)
            if binary:
                bounds = wilson(means[t], n)
            else:
                spread = np.nansum((rows - means[t][:, None]) ** 2, axis=1) / np.maximum(n - 1, 1)
                reach = np.where(n > 1, Z * np.sqrt(spread / n), 1.0)
                bounds = np.maximum(means[t] - reach, 0), np.minimum(means[t] + reach, 1)
            measured = counts[t] > 0
            low[t] = np.where(measured, bounds[0], 0)
            high[t] = np.where(measured, bounds[1], 1)
        return low, high

    def ranking(self, task: int) -> np.ndarray:
        """int [A]: adapters from best to worst; those that were not measured come last.

        By the number of examples, by the mean, then the task's own, then by index.
        """
        means, counts = self.means()[task], self.counts()[task]
        places = np.arange(len(self.adapters))
        foreign = places != self.own[task]
        return np.lexsort((places, foreign, -np.nan_to_num(means, nan=-1.0), -counts))

    def best(self, task: int, masked: Collection[int] = ()) -> int:
        """The adapter that a task takes, none of those masked; -1: there is none."""
        counts = self.counts()[task]
        for adapter in self.ranking(task):
            if int(adapter) not in masked and counts[adapter]:
                return int(adapter)
        return -1

    def choices(self, masked: Collection[int] = ()) -> np.ndarray:
        """int [T]: :meth:`best` of every task."""
        return np.array([self.best(t, masked) for t in range(len(self.tasks))], dtype=np.int64)


def wilson(means: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval (1927) of shares of counts, at 95 %."""
    n = np.asarray(counts, dtype=np.float64)
    middle = (means + Z**2 / (2 * n)) / (1 + Z**2 / n)
    reach = Z / (1 + Z**2 / n) * np.sqrt(means * (1 - means) / n + Z**2 / (4 * n**2))
    return np.maximum(middle - reach, 0), np.minimum(middle + reach, 1)


def matrix_of(
    tasks: Sequence[str],
    adapters: Sequence[str],
    scores: Sequence[np.ndarray],
    own: Sequence[str | None],
    binary: Sequence[bool],
) -> ScoreMatrix:
    """A matrix in which own adapters are given by name; a name that is none of them is none."""
    places = {name: place for place, name in enumerate(adapters)}
    mine = np.array([places.get(name or "", -1) for name in own], dtype=np.int64)
    return ScoreMatrix(tuple(tasks), tuple(adapters), tuple(scores), mine, tuple(binary))
