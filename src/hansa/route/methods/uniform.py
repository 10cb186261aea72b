"""Equal weights: over the nearest tasks' adapters, or over all adapters that there are."""

from __future__ import annotations

from pydantic import Field

from hansa.base.component import register
from hansa.route.answering import Mixture
from hansa.route.bench import Bench
from hansa.route.methods.method import MixtureMethod
from hansa.route.routing import mixture_of


@register("uniform")
class Uniform(MixtureMethod):
    """The nearest K tasks, each with the adapter that validates best, all with the same weight."""

    k: int = Field(3, ge=1, description="tasks that are kept")

    def mixtures(self, bench: Bench) -> list[Mixture]:
        router = bench.router.but(self.k, abstains=False)
        choices = bench.choices()
        routed = router.route(bench.vectors, bench.excluded, choices)
        return [
            mixture_of([int(row[t]) for t in one.tasks], [1.0] * len(one.tasks))
            for row, one in zip(choices, routed, strict=True)
        ]


@register("average")
class Average(MixtureMethod):
    """All adapters of the pool, all with the same weight, for every query."""

    def mixtures(self, bench: Bench) -> list[Mixture]:
        everyone = {}
        for task, _ in bench.groups():
            pool = bench.pool(task)
            everyone[task] = mixture_of(pool, [1.0] * len(pool))
        return [everyone[int(task)] for task in bench.own]
