"""LoraRetriever (Zhao et al. 2024): adapters by the texts they were trained for, never validated.

An adapter's vector is the mean of its training texts'. Nobody has those here, so it is given the
validation texts of the task that it was trained on, which LORAUTER has, too; an adapter that was
trained on none of the tasks cannot be retrieved. Weights are equal.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hansa.base.component import register
from hansa.route.answering import Mixture
from hansa.route.bench import Bench
from hansa.route.methods.fusion import fused_answers
from hansa.route.methods.method import RoutingMethod
from hansa.route.routing import mixture_of


@register("lora_retriever", paper="Zhao et al.", year=2024, url="https://arxiv.org/abs/2402.09997")
class LoraRetriever(RoutingMethod):
    """The adapters whose own texts are nearest, with equal weights: not validated."""

    mode: Literal["selection", "mixture", "fusion"] = Field(
        "mixture", description="the nearest alone; outputs of the nearest k; or their factors"
    )
    k: int = Field(3, ge=1, description="adapters that are kept; one in selection")

    def mixtures(self, bench: Bench) -> list[Mixture]:
        """Equal weights on the nearest adapters of each query."""
        own = bench.own_adapters()
        # An adapter lies where its task does; it is gone where the adapter is, or the task.
        gone = bench.excluded | (own < 0)
        router = bench.router.but(1 if self.mode == "selection" else self.k, abstains=False)
        routed = router.route(bench.vectors, gone, own)
        return [
            mixture_of([int(row[t]) for t in one.tasks], [1.0] * len(one.tasks))
            for row, one in zip(own, routed, strict=True)
        ]

    def answers(self, bench: Bench) -> tuple[list[str], float]:
        chosen = [mixture.folded() for mixture in self.mixtures(bench)]
        touched = sum(len(mixture.adapters) for mixture in chosen) / max(1, len(chosen))
        if self.mode == "fusion":
            return fused_answers(bench, chosen), touched
        return bench.answers(chosen), touched
