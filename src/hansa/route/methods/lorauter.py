"""LORAUTER: tasks by nearness, adapters by validation, their outputs mixed."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from hansa.base.component import register
from hansa.route.abstaining import conformal, thresholds
from hansa.route.answering import Mixture
from hansa.route.bench import Bench
from hansa.route.methods.method import MixtureMethod

URL = "https://arxiv.org/abs/2601.21795"


class _Routing(MixtureMethod):
    k: int | None = Field(None, ge=1, description="tasks that are kept; none: as fitted")
    temperature: float | None = Field(
        None, ge=0, description="of the softmax over them; none: as fitted"
    )


@register("lorauter", paper="LORAUTER", year=2026, url=URL)
class Lorauter(_Routing):
    """The nearest K tasks, each with the adapter that validates best, by softmax of nearness."""

    alpha: float = Field(
        0.0, ge=0, lt=1, description="the base answers what is near no task; 0: nothing"
    )

    def mixtures(self, bench: Bench) -> list[Mixture]:
        router = bench.router.but(self.k, self.temperature, abstains=False)
        if self.alpha > 0:
            router = replace(router, thresholds=thresholds(conformal(bench.validation), self.alpha))
        routed = router.route(bench.vectors, bench.excluded, bench.choices())
        return [one.mixture for one in routed]


@register("no_validation")
class NoValidation(_Routing):
    """As lorauter, but each task stands for the adapter that was trained on it, good or bad."""

    def mixtures(self, bench: Bench) -> list[Mixture]:
        router = bench.router.but(self.k, self.temperature, abstains=False)
        routed = router.route(bench.vectors, bench.excluded, bench.own_adapters())
        return [one.mixture for one in routed]
