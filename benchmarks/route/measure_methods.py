"""Every way to answer queries over a pool of adapters, and how often each is right."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
from measure_routing import Scores, World, by_mixture

from hansa.base.streams import Streams
from hansa.route.answering import BASE, Mixture
from hansa.route.association import Association
from hansa.route.routing import Router, top_k
from hansa.route.score_matrix import ScoreMatrix
from hansa.route.sets import Example
from hansa.route.slab import AdapterSlab

TEMPERATURES = (0.01, 0.02, 0.05, 0.1, 0.2)
K = 3
WITHOUT, WITH = "", ", routed with its labels"
"""What the router sees of a query: the sentence alone, or with the candidates that it carries."""


def associated(world: World, pool: int, how: Association, seed: int) -> tuple[ScoreMatrix, int]:
    """(scores, answers that it took)."""
    scores = Scores(world, pool)
    how.run(scores, Streams(seed), world.names)
    return scores.matrix(), scores.answered


def routers(world: World, matrix: ScoreMatrix, regime: str, labelled: bool = False) -> list[Router]:
    """One a task: what is there for its queries."""
    centroids = []
    for examples in world.validation:
        mean = world.vectors(examples, labelled).mean(0)
        centroids.append(mean / np.linalg.norm(mean))
    stacked = np.stack(centroids).astype(np.float32)
    chosen = []
    for own in world.own:
        masked = () if regime == "ID" else (own,)
        chosen.append(Router(stacked, matrix.choices(masked), k=K))
    return chosen


def methods(
    world: World, matrix: ScoreMatrix, regime: str, temperature: float, labelled: bool
) -> dict[str, float]:
    """Every way to answer in a regime."""
    mine = routers(world, matrix, regime, labelled)
    count = len(world.names)

    def excluded(task: int) -> np.ndarray | None:
        if regime != "OOD":
            return None
        rows = np.zeros((len(world.test[task]), count), dtype=bool)
        rows[:, task] = True
        return rows

    def routed(k: int, tau: float) -> Callable[[int], list[Mixture]]:
        def of(task: int) -> list[Mixture]:
            router = mine[task].but(k=k, temperature=tau)
            vectors = world.vectors(world.test[task], labelled)
            return [r.mixture for r in router.route(vectors, excluded(task))]

        return of

    def fused(task: int) -> list[Mixture]:
        """The uniform mixture's adapters averaged as numbers, A with A and B with B."""
        rows = routed(K, 1e9)(task)
        return [_fused(world.model.slab, mixture) for mixture in rows]

    return {
        f"LORAUTER, K = {K}": by_mixture(world, routed(K, temperature)),
        "LORAUTER, K = 1": by_mixture(world, routed(1, 0.0)),
        f"uniform mixture of {K}": by_mixture(world, routed(K, 1e9)),
        f"parameter fusion of {K}": by_mixture(world, fused),
    }


def _fused(slab: AdapterSlab, mixture: Mixture) -> Mixture:
    name = "fused " + ",".join(map(str, sorted(mixture.adapters)))
    if name not in slab:
        parts = [(slab.factors(slab.name(a)), w) for a, w in mixture_items(mixture)]
        slab.add(
            name,
            {
                layer: (
                    sum(w * p[layer][0].float() for p, w in parts),
                    sum(w * p[layer][1].float() for p, w in parts),
                )
                for layer in parts[0][0]
            },
        )
    return Mixture((slab.index(name),), (1.0,))


def mixture_items(mixture: Mixture) -> list[tuple[int, float]]:
    """(adapter, weight), in the order of the pool: the same sum whoever asks."""
    return sorted(zip(mixture.adapters, mixture.weights, strict=True))


def alone(adapter: int) -> Mixture:
    """One adapter."""
    return Mixture((adapter,), (1.0,))


def average_all(world: World, pool: int) -> float:
    """One adapter for everything: all of the pool averaged, as numbers."""
    slab = world.model.slab
    everyone = Mixture(tuple(range(pool)), (1 / pool,) * pool)
    mixture = _fused(slab, everyone)
    score = by_mixture(world, lambda task: mixture)
    slab.remove(slab.name(mixture.adapters[0]))
    return score


def best_temperature(world: World, matrix: ScoreMatrix, labelled: bool) -> float:
    """What does best on the validation queries, whose centroids are made without them."""
    choices = matrix.choices()
    vectors = [world.vectors(examples, labelled) for examples in world.validation]
    sums = np.stack([rows.sum(0) for rows in vectors])
    asked: dict[float, list[tuple[Example, Mixture]]] = {t: [] for t in TEMPERATURES}
    for task, (examples, rows) in enumerate(zip(world.validation, vectors, strict=True)):
        for example, vector in zip(examples, rows, strict=True):
            centroids = sums.copy()
            centroids[task] -= vector
            centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
            for tau in TEMPERATURES:
                tasks, weights = top_k((vector @ centroids.T)[None], K, tau)
                mixture = Mixture(
                    tuple(int(choices[t]) for t in tasks[0]), tuple(weights[0].tolist())
                )
                asked[tau].append((example, mixture))
    scores = {tau: float(world.answers(pairs).mean()) for tau, pairs in asked.items()}
    return max(TEMPERATURES, key=lambda tau: scores[tau])


def table_of(world: World, seed: int, pool: int, how: Association) -> dict[str, Any]:
    """Scores of all methods in all regimes over the pool as it is."""
    matrix, cost = associated(world, pool, how, seed)
    rows = {
        "own adapter (oracle)": {"ID": by_mixture(world, lambda t: alone(world.own[t]))},
        "base": {"ID": by_mixture(world, lambda t: BASE)},
        "average of all": {"ID": average_all(world, pool)},
    }
    temperature, top1 = {}, {}
    for labelled in (False, True):
        said = WITH if labelled else WITHOUT
        temperature[said] = best_temperature(world, matrix, labelled)
        for regime in ("ID", "semi-OOD", "OOD"):
            of = methods(world, matrix, regime, temperature[said], labelled)
            for name, score in of.items():
                rows.setdefault(name + said, {})[regime] = score
        router = routers(world, matrix, "ID", labelled)[0]
        nearest = [
            router.similarities(world.vectors(examples, labelled)).argmax(1) == task
            for task, examples in enumerate(world.test)
        ]
        top1[said] = 100 * statistics.mean(float(right.mean()) for right in nearest)
    return {
        "rows": rows,
        "temperature": temperature,
        "answers": cost,
        "top1": top1,
        "choices": [matrix.adapters[c] for c in matrix.choices()],
    }
