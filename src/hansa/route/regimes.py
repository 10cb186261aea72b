"""What a query may use, by how new its task is (LORAUTER).

* ``id``: everything.
* ``semi``: its task is known, with its validation set; the adapter trained on it is not there.
* ``ood``: neither its task nor its own adapter is there.
* ``hard``: the three tasks that are nearest to it are gone, its own among them, and its adapter.

What is not there gets a similarity of minus infinity, or is left out of the ranking: a score of 0
could still win a tie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hansa.route.score_matrix import ScoreMatrix

Regime = Literal["id", "semi", "ood", "hard"]
GONE = 3
"""Nearest tasks that the hard regime takes away."""


@dataclass(frozen=True)
class Allowed:
    """What queries of each task may use.

    Attributes:
        excluded: bool [T, T], row t: tasks that do not exist for a query of task t.
        masked: of each task the adapters that do not exist for its queries.
    """

    excluded: np.ndarray
    masked: tuple[frozenset[int], ...]

    def choices(self, matrix: ScoreMatrix) -> np.ndarray:
        """int [T, T], row t: the adapter of every task for a query of task t."""
        made: dict[frozenset[int], np.ndarray] = {}
        for mask in self.masked:
            if mask not in made:
                made[mask] = matrix.choices(mask)
        return np.stack([made[mask] for mask in self.masked])


def allowed(regime: Regime, matrix: ScoreMatrix, centroids: np.ndarray) -> Allowed:
    """What a regime leaves of tasks and adapters.

    Args:
        centroids: float32 [T, d], each of length 1.
    """
    count = len(matrix.tasks)
    excluded = np.zeros((count, count), dtype=bool)
    masked = [frozenset[int]()] * count
    if regime != "id":
        masked = [frozenset({int(a)} if a >= 0 else set()) for a in matrix.own]
    if regime == "ood":
        np.fill_diagonal(excluded, True)
    if regime == "hard":
        near = centroids @ centroids.T
        np.fill_diagonal(near, np.inf)
        for t, order in enumerate(np.argsort(-near, axis=1, kind="stable")):
            excluded[t, order[:GONE]] = True
    return Allowed(excluded, tuple(masked))
