"""From a query's vector to weights over adapters: the nearest tasks, a softmax over those alone.

LORAUTER: s_t = cos(q, e_t); the K tasks with the largest s_t are kept; p = softmax(s / temperature)
over the K; each kept task stands for its adapter, and weights of one adapter add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hansa.base.errors import ConfigError
from hansa.route.answering import BASE, Mixture


@dataclass(frozen=True)
class Routed:
    """Where a query went.

    Attributes:
        tasks: the kept tasks, nearest first.
        weights: theirs; they sum to 1.
        similarities: cosines with them.
        mixture: what answers; adapters are counted as in the pool, not in a slab. Empty where it
            abstained.
        abstained: the base alone answers: no task is near enough, or none has an adapter.
    """

    tasks: tuple[int, ...]
    weights: tuple[float, ...]
    similarities: tuple[float, ...]
    mixture: Mixture
    abstained: bool = False


@dataclass(frozen=True)
class Router:
    """Routes vectors.

    Attributes:
        centroids: float32 [T, d], each of length 1.
        choices: int [T], the adapter of each task, -1: none.
        k: tasks that are kept, or all where there are fewer.
        temperature: of the softmax; 0: the nearest alone.
        thresholds: float [T]; a query that is nearer to no task than its threshold goes to the
            base. None: nobody abstains.
    """

    centroids: np.ndarray
    choices: np.ndarray
    k: int = 3
    temperature: float = 0.05
    thresholds: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError("k", self.k, "keeps no task", "1 or more")
        if not self.temperature >= 0:
            raise ConfigError("temperature", self.temperature, "is below 0", "0 or more")

    def but(
        self, k: int | None = None, temperature: float | None = None, abstains: bool = True
    ) -> Router:
        """The same with another K, another temperature, or without thresholds."""
        return replace(
            self,
            k=self.k if k is None else k,
            temperature=self.temperature if temperature is None else temperature,
            thresholds=self.thresholds if abstains else None,
        )

    def similarities(self, vectors: np.ndarray) -> np.ndarray:
        """float64 [n, T] cosines of vectors [n, d]; 0 of a vector without a direction.

        Raises:
            ConfigError: a number is not finite.
        """
        vectors = np.asarray(vectors, dtype=np.float64)
        if not np.isfinite(vectors).all():
            problem = "a query's vector holds a number that is not finite"
            raise ConfigError("encoder", None, problem, "another encoder")
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors @ self.centroids.T.astype(np.float64) / np.where(lengths > 0, lengths, 1)

    def route(
        self,
        vectors: np.ndarray,
        excluded: np.ndarray | None = None,
        choices: np.ndarray | None = None,
    ) -> list[Routed]:
        """Where queries go.

        Args:
            vectors: [n, d]. One that is zero has no direction: the base answers.
            excluded: bool [n, T], tasks that do not exist for a query.
            choices: int [n, T], other adapters of the tasks for each query.
        """
        nowhere = np.abs(vectors).max(axis=1, initial=0) == 0
        return self.by_similarity(self.similarities(vectors), excluded, choices, nowhere)

    def by_similarity(
        self,
        similar: np.ndarray,
        excluded: np.ndarray | None = None,
        choices: np.ndarray | None = None,
        nowhere: np.ndarray | None = None,
    ) -> list[Routed]:
        """As :meth:`route`, from cosines [n, T].

        Args:
            nowhere: bool [n], queries that the base answers in any case.
        """
        allowed = similar if excluded is None else np.where(excluded, -np.inf, similar)
        kept, weights = top_k(allowed, self.k, self.temperature)
        away = np.zeros(len(similar), dtype=bool) if nowhere is None else nowhere.copy()
        if self.thresholds is not None:
            away |= ~(allowed >= self.thresholds).any(1)
        return [
            self._routed(
                kept[n], weights[n], similar[n],
                self.choices if choices is None else choices[n], bool(away[n]),
            )
            for n in range(len(similar))
        ]  # fmt: skip

    def _routed(
        self, kept: np.ndarray, weights: np.ndarray, similar: np.ndarray, choices: np.ndarray,
        nowhere: bool,
    ) -> Routed:  # fmt: skip
        real = weights > 0
        tasks = tuple(int(t) for t in kept[real])
        shares = tuple(float(w) for w in weights[real])
        mixture = mixture_of([int(choices[t]) for t in tasks], shares)
        near = tuple(float(similar[t]) for t in tasks)
        away = nowhere or not mixture.adapters
        return Routed(tasks, shares, near, BASE if away else mixture, away)


def top_k(similar: np.ndarray, k: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """(tasks int [n, K], weights float64 [n, K]) of the K largest of [n, T], largest first.

    The softmax is over those K alone. What is -inf gets the weight 0; where all of a row is, all
    weights are. Of equals the first by index is nearer.
    """
    k = min(k, similar.shape[1])
    kept = np.argsort(-similar, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(similar, kept, 1)
    finite = np.isfinite(best)
    top = np.where(finite[:, :1], best[:, :1], 0)
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.where(finite, best - top, -np.inf)
        if temperature > 0:
            raw = np.exp(apart / temperature)
        else:
            raw = (np.arange(k) == 0) * finite.astype(np.float64)
    total = raw.sum(1, keepdims=True)
    return kept, raw / np.where(total > 0, total, 1)


def mixture_of(adapters: Sequence[int], weights: Sequence[float]) -> Mixture:
    """Weights of one adapter added; tasks without an adapter (-1) leave theirs to the others."""
    sums: dict[int, float] = {}
    for adapter, weight in zip(adapters, weights, strict=True):
        if adapter >= 0:
            sums[adapter] = sums.get(adapter, 0.0) + weight
    total = sum(sums.values())
    if not total > 0:
        return BASE
    return Mixture(tuple(sums), tuple(weight / total for weight in sums.values()))
