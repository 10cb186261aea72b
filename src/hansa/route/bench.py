"""Queries of a regime with all that a method may know of them: every method is given the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hansa.route.answering import AnsweringModel, Mixture, Query
from hansa.route.pool_scorer import answered
from hansa.route.regimes import Allowed
from hansa.route.routing import Router
from hansa.route.score_matrix import ScoreMatrix
from hansa.route.sets import RoutedTask


@dataclass(frozen=True)
class Bench:
    """Queries, what is there for them, and who answers.

    Attributes:
        model: its slab holds the pool's adapters under their names.
        tasks: with their validation examples.
        matrix: scores of the pool's adapters; names and order of the pool are its.
        router: with the K and the temperature that were fitted; it does not abstain.
        queries: n of them.
        vectors: float32 [n, d], the encoder's.
        own: int [n], the task each is of. A method may use it only through ``allowed``.
        allowed: what exists for queries of a task.
        validation: of each task the vectors of its validation examples, float32 [n_t, d].
        seed: of methods that draw.
        batch: rows at once.
    """

    model: AnsweringModel
    tasks: tuple[RoutedTask, ...]
    matrix: ScoreMatrix
    router: Router
    queries: tuple[Query, ...]
    vectors: np.ndarray
    own: np.ndarray
    allowed: Allowed
    validation: tuple[np.ndarray, ...]
    seed: int = 1
    batch: int = 64

    @property
    def excluded(self) -> np.ndarray:
        """bool [n, T], the tasks that do not exist for each query."""
        return self.allowed.excluded[self.own]

    def choices(self) -> np.ndarray:
        """int [n, T], the adapter of each task by validation, -1: none."""
        return self.allowed.choices(self.matrix)[self.own]

    def own_adapters(self) -> np.ndarray:
        """int [n, T], the adapter that was trained on each task where it exists, else -1."""
        rows = np.tile(self.matrix.own, (len(self.allowed.masked), 1))
        for row, masked in zip(rows, self.allowed.masked, strict=True):
            row[np.isin(row, list(masked))] = -1
        return rows[self.own]

    def pool(self, task: int) -> list[int]:
        """The adapters that exist for queries of a task."""
        masked = self.allowed.masked[task]
        return [a for a in range(len(self.matrix.adapters)) if a not in masked]

    def groups(self) -> Iterator[tuple[int, np.ndarray]]:
        """(task, places of its queries), for what has to be made once for all of them."""
        for task in np.unique(self.own):
            yield int(task), np.flatnonzero(self.own == task)

    def in_slab(self, mixture: Mixture) -> Mixture:
        """A mixture over the pool as one over the slab."""
        names = self.matrix.adapters
        places = tuple(self.model.slab.index(names[a]) for a in mixture.adapters)
        return Mixture(places, mixture.weights)

    def answers(self, mixtures: Sequence[Mixture], places: np.ndarray | None = None) -> list[str]:
        """Answers of queries, each with its own mixture over the pool.

        Args:
            places: of which queries; None: of all.
        """
        queries = self.queries if places is None else [self.queries[k] for k in places]
        return answered(
            self.model, queries, [self.in_slab(mixture) for mixture in mixtures], self.batch
        )
