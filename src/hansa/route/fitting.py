"""K and the temperature, fitted to the encoder on validation queries: no test query is looked at.

Cosines of one encoder lie close together, those of another far apart: a temperature that suits one
drags in unrelated tasks with another. Every setting of a grid answers some validation queries of
each task, once with everything there and once as if their task and its adapter did not exist; a
query's vector is compared with its own task's centroid without itself. Of the settings that are not
worse than the best by more than a standard error (of the paired differences) the first of the grid
is taken: a few queries tell no more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hansa.base.streams import Streams
from hansa.route.answering import AnsweringModel, Mixture
from hansa.route.embeddings import left_out
from hansa.route.pool_scorer import answered, scored
from hansa.route.regimes import allowed
from hansa.route.routing import Router
from hansa.route.score_matrix import ScoreMatrix
from hansa.route.sets import RoutedTask

KS = (3, 2, 5, 1)
TEMPERATURES = (0.05, 0.1, 0.02, 0.2, 0.01, 0.5)


@dataclass(frozen=True)
class Fit:
    """What was fitted.

    Attributes:
        table: of every setting its mean score with everything there, and without the own task.
        answers: how many answers it took.
    """

    k: int
    temperature: float
    table: list[dict[str, Any]]
    answers: int


def grid_of(
    tasks: int, ks: Sequence[int], temperatures: Sequence[float]
) -> list[tuple[int, float]]:
    """The grid, the usual first: of one task, or of K = 1, the temperature does not matter."""
    grid: list[tuple[int, float]] = []
    for k in ks:
        kept = min(k, tasks)
        for temperature in temperatures if kept > 1 else temperatures[:1]:
            if (kept, temperature) not in grid:
                grid.append((kept, temperature))
    return grid


def fit(
    model: AnsweringModel,
    tasks: Sequence[RoutedTask],
    vectors: Sequence[np.ndarray],
    matrix: ScoreMatrix,
    router: Router,
    seed: int,
    queries: int = 10,
    ks: Sequence[int] = KS,
    temperatures: Sequence[float] = TEMPERATURES,
    batch: int = 64,
    say: Callable[[str], None] = lambda text: None,
) -> Fit:
    """The K and the temperature that do best.

    Args:
        vectors: of each task's validation examples [n_t, d], of length 1.
        matrix: the score matrix of the pool in the model's slab.
        router: whose centroids and choices are used.
        queries: validation examples of each task that are asked.
        ks: that are tried, cut at the number of tasks; of equals the first is taken.
        temperatures: that are tried.
    """
    drawn = [
        np.sort(Streams(seed).numpy(f"fitting {task.name}").permutation(len(rows))[:queries])
        for task, rows in zip(tasks, vectors, strict=True)
    ]
    own = np.repeat(np.arange(len(tasks)), [len(places) for places in drawn])
    similar = np.concatenate(
        [_similar(router, rows, t, places)
         for t, (rows, places) in enumerate(zip(vectors, drawn, strict=True))]
    )  # fmt: skip
    examples = [tasks[t].validation[k] for t, places in enumerate(drawn) for k in places]
    cache: dict[tuple[int, Mixture], float] = {}
    table, asked = [], 0
    every: list[np.ndarray] = []
    for k, temperature in grid_of(len(tasks), ks, temperatures):
        say(f"fits K = {k}, temperature {temperature}")
        row: dict[str, Any] = {"k": k, "temperature": temperature}
        kept = []
        for regime in ("id", "ood") if len(tasks) > 1 else ("id",):
            left = allowed(regime, matrix, router.centroids)
            routed = router.but(k, temperature, abstains=False).by_similarity(
                similar, left.excluded[own], left.choices(matrix)[own]
            )
            mixtures = [_rounded(one.mixture) for one in routed]
            new = [n for n, mixture in enumerate(mixtures) if (n, mixture) not in cache]
            asked += len(new)
            _ask(model, matrix, tasks, own, examples, mixtures, new, cache, batch)
            scores = np.array([cache[n, mixture] for n, mixture in enumerate(mixtures)])
            kept.append(scores)
            row[regime] = float(np.mean([scores[own == t].mean() for t in range(len(tasks))]))
        row["mean"] = (row["id"] + row.get("ood", row["id"])) / 2
        table.append(row)
        every.append(np.concatenate(kept))
    best = table[_first_as_good(every, [row["mean"] for row in table])]
    return Fit(best["k"], best["temperature"], table, asked)


def _first_as_good(scores: Sequence[np.ndarray], means: Sequence[float]) -> int:
    """The first setting that is within a standard error of the best one."""
    best = int(np.argmax(means))
    for place, row in enumerate(scores):
        behind = scores[best] - row
        error = float(behind.std(ddof=1)) / len(behind) ** 0.5 if len(behind) > 1 else 0.0
        if behind.mean() <= error:
            return place
    return best


def _similar(router: Router, rows: np.ndarray, task: int, places: np.ndarray) -> np.ndarray:
    """Cosines [n, T] of some of a task's vectors, with its own centroid each without itself."""
    similar = router.similarities(rows[places])
    similar[:, task] = left_out(rows)[places]
    return similar


def _rounded(mixture: Mixture) -> Mixture:
    """Weights to a thousandth: settings that hardly differ are asked once."""
    folded = mixture.folded()
    return Mixture(folded.adapters, tuple(round(w, 3) for w in folded.weights)).folded()


def _ask(
    model: AnsweringModel, matrix: ScoreMatrix, tasks: Sequence[RoutedTask], own: np.ndarray,
    examples: Sequence[Any], mixtures: Sequence[Mixture], places: Sequence[int],
    cache: dict[tuple[int, Mixture], float], batch: int,
) -> None:  # fmt: skip
    index = [model.slab.index(name) for name in matrix.adapters] if places else []
    inside = [
        Mixture(tuple(index[a] for a in mixtures[n].adapters), mixtures[n].weights) for n in places
    ]
    answers = answered(model, [examples[n].query for n in places], inside, batch)
    for n, answer in zip(places, answers, strict=True):
        metric = tasks[int(own[n])].metric
        cache[n, mixtures[n]] = float(scored(metric, [answer], [examples[n]])[0])
