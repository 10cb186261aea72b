"""LORAUTER without task labels: clusters of validation examples stand for tasks."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.streams import Streams
from hansa.route.answering import BASE, Mixture
from hansa.route.bench import Bench
from hansa.route.methods.method import MixtureMethod
from hansa.route.pseudo_tasks import pseudo_tasks
from hansa.route.routing import Router
from hansa.route.score_matrix import ScoreMatrix


@register("clusters")
class Clusters(MixtureMethod):
    """As lorauter, with k-means clusters of all validation examples in the place of tasks."""

    clusters: int = Field(24, ge=1, description="how many; no more than there are examples")
    k: int = Field(3, ge=1, description="clusters that a query keeps")
    temperature: float | None = Field(None, ge=0, description="none: as fitted for tasks")

    def mixtures(self, bench: Bench) -> list[Mixture]:
        chosen = [BASE] * len(bench.queries)
        made: dict[bytes, tuple[np.ndarray, ScoreMatrix]] = {}
        for task, places in bench.groups():
            present = ~bench.allowed.excluded[task]
            if not present.any():
                continue
            key = present.tobytes()
            if key not in made:  # examples of tasks that do not exist are not there, either
                made[key] = self._clusters(bench, present)
            centroids, matrix = made[key]
            choices = matrix.choices(bench.allowed.masked[task])
            router = Router(centroids, choices, self.k, bench.router.temperature)
            routed = router.but(temperature=self.temperature).route(bench.vectors[places])
            for place, one in zip(places, routed, strict=True):
                chosen[place] = one.mixture
        return chosen

    def _clusters(self, bench: Bench, present: np.ndarray) -> tuple[np.ndarray, ScoreMatrix]:
        kept = np.flatnonzero(present).tolist()
        whole = bench.matrix
        matrix = ScoreMatrix(
            tuple(whole.tasks[t] for t in kept), whole.adapters,
            tuple(whole.scores[t] for t in kept), whole.own[kept],
            tuple(whole.binary[t] for t in kept),
        )  # fmt: skip
        vectors = [bench.validation[t] for t in kept]
        count = min(self.clusters, sum(map(len, vectors)))
        made = pseudo_tasks(vectors, matrix, count, Streams(bench.seed).integer("clusters"))
        return made.centroids, made.matrix
