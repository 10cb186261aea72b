"""Scores of methods on test queries, by regime, normalised to the oracle.

As in LORAUTER: of each domain the mean score by the oracle's mean score, then the mean over
domains. Never by task, where an oracle at zero would divide; a domain whose oracle is at zero is
left out and named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hansa.route.answering import AnsweringModel
from hansa.route.bench import Bench
from hansa.route.methods.method import RoutingMethod
from hansa.route.pool_scorer import scored
from hansa.route.regimes import Regime, allowed
from hansa.route.routing import Router
from hansa.route.score_matrix import ScoreMatrix
from hansa.route.sets import Example, RoutedTask


class TestSets:
    """The test sets of tasks, end to end.

    Attributes:
        examples: n of them.
        own: int [n], the task of each.
        vectors: float32 [n, d].
    """

    def __init__(self, tasks: Sequence[RoutedTask], vectors: Sequence[np.ndarray]) -> None:
        self.tasks = tuple(tasks)
        self.examples: list[Example] = [e for task in tasks for e in task.test]
        self.own = np.repeat(np.arange(len(tasks)), [len(task.test) for task in tasks])
        self.vectors = np.concatenate(list(vectors))

    def with_vectors(self, vectors: Sequence[np.ndarray]) -> TestSets:
        """The same queries with another encoder's vectors, [n_t, d] of each task that is tested."""
        return TestSets(self.tasks, vectors)

    def scores(self, answers: Sequence[str]) -> np.ndarray:
        """float32 [n] of answers."""
        score = np.zeros(len(self.examples), np.float32)
        for t, task in enumerate(self.tasks):
            places = np.flatnonzero(self.own == t).tolist()
            said = [answers[k] for k in places]
            score[places] = scored(task.metric, said, [self.examples[k] for k in places])
        return score

    def by_domain(self, scores: np.ndarray) -> dict[str, float]:
        """Mean scores; of a domain the mean over its tasks' means."""
        of: dict[str, list[float]] = {}
        for t, task in enumerate(self.tasks):
            if (mine := scores[self.own == t]).size:
                of.setdefault(task.domain, []).append(float(mine.mean()))
        return {domain: float(np.mean(means)) for domain, means in of.items()}


def bench_of(
    model: AnsweringModel, test: TestSets, validation: Sequence[np.ndarray], matrix: ScoreMatrix,
    router: Router, regime: Regime, seed: int, batch: int,
) -> Bench:  # fmt: skip
    """The test queries of a regime for methods."""
    queries = tuple(example.query for example in test.examples)
    left = allowed(regime, matrix, router.centroids)
    return Bench(
        model, test.tasks, matrix, router, queries, test.vectors, test.own, left,
        tuple(validation), seed, batch,
    )  # fmt: skip


def evaluated(method: RoutingMethod, bench: Bench, test: TestSets) -> dict[str, Any]:
    """A method's mean scores by domain, and how many adapters a query touched."""
    answers, touched = method.answers(bench)
    scores = test.scores(answers)
    domains = test.by_domain(scores)
    mean = float(np.mean(list(domains.values()))) if domains else 0.0
    return {"domains": domains, "raw": mean, "touched": touched}


def normalised(domains: dict[str, float], oracle: dict[str, float]) -> float | None:
    """The mean over domains of the score by the oracle's; None where the oracle is at zero."""
    shares = [score / oracle[d] for d, score in domains.items() if oracle.get(d, 0) > 0]
    return float(np.mean(shares)) if shares else None


def retrieval(router: Router, test: TestSets) -> dict[str, float]:
    """How often a query's own task is the nearest, and among the nearest three."""
    order = np.argsort(-router.similarities(test.vectors), axis=1, kind="stable")
    hits = order == test.own[:, None]
    return {"top1": float(hits[:, 0].mean()), "top3": float(hits[:, :3].any(1).mean())}
