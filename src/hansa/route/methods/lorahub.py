"""LoRAHub (Huang et al. 2023): a few shots choose weights of some modules, without gradients.

Factors are summed, A_f = sum w A and B_f = sum w B, with w in [-1.5, 1.5] and 0 at first; what is
minimised is the loss on the few shots + 0.05 mean |w|. Deviations: the loss is the share of wrong
answers, since any answering model can be asked for those; the search is a (1+1) evolution strategy
with a step that adapts (the paper's is Nevergrad's NGOpt); shots are validation examples of the
nearest task that exists, found as LORAUTER finds it.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.streams import Streams
from hansa.route.answering import Mixture
from hansa.route.bench import Bench
from hansa.route.methods.fusion import fused, fused_answers
from hansa.route.methods.method import RoutingMethod
from hansa.route.pool_scorer import answered, scored

_NAME = "lorahub"


@register("lorahub", paper="Huang et al.", year=2023, url="https://arxiv.org/abs/2307.13269")
class LoraHub(RoutingMethod):
    """LoRAHub: weights of summed factors by a gradient-free search on a few validation examples."""

    steps: int = Field(40, ge=1, description="candidates that are tried for each task")
    shots: int = Field(5, ge=1, description="validation examples that judge them")
    modules: int = Field(20, ge=1, description="adapters, drawn at random")
    penalty: float = Field(0.05, ge=0, description="of the mean absolute weight")

    def answers(self, bench: Bench) -> tuple[list[str], float]:
        router = bench.router.but(1, abstains=False)
        routed = router.route(bench.vectors, bench.excluded)
        learned: dict[tuple[int, frozenset[int]], Mixture] = {}
        mixtures = []
        for own, one in zip(bench.own, routed, strict=True):
            if not one.tasks or not bench.pool(int(own)):
                mixtures.append(Mixture())
                continue
            key = (one.tasks[0], bench.allowed.masked[own])
            if key not in learned:
                learned[key] = self._learned(bench, one.tasks[0], bench.pool(int(own)))
            mixtures.append(learned[key])
        touched = sum(len(mixture.adapters) for mixture in mixtures) / max(1, len(mixtures))
        return fused_answers(bench, mixtures), touched

    def _learned(self, bench: Bench, task: int, pool: list[int]) -> Mixture:
        """The weights for one task."""
        rng = Streams(bench.seed).numpy(f"lorahub {bench.tasks[task].name} {len(pool)}")
        drawn = sorted(rng.permutation(pool)[: self.modules].tolist())
        best = np.zeros(len(drawn))
        least, reach = self._loss(bench, task, drawn, best), 0.5
        for _ in range(self.steps):
            tried = np.clip(best + reach * rng.normal(size=len(best)), -1.5, 1.5)
            loss = self._loss(bench, task, drawn, tried)
            # The one-fifth rule: wider after a success, narrower after four failures.
            if loss <= least:
                best, least, reach = tried, loss, min(1.5, reach * 1.5)
            else:
                reach *= 1.5**-0.25
        kept = [(a, float(w)) for a, w in zip(drawn, best, strict=True) if w]
        return Mixture(tuple(a for a, _ in kept), tuple(w for _, w in kept))

    def _loss(self, bench: Bench, task: int, pool: list[int], weights: np.ndarray) -> float:
        slab, names = bench.model.slab, bench.matrix.adapters
        named = {names[a]: float(w) for a, w in zip(pool, weights, strict=True) if w}
        examples = bench.tasks[task].validation[: self.shots]
        queries = [example.query for example in examples]
        mixture = Mixture()
        if named:
            mixture = Mixture((slab.add(_NAME, fused(slab, named)),), (1.0,))
        try:
            answers = answered(bench.model, queries, [mixture] * len(queries), bench.batch)
        finally:
            if named:
                slab.remove(_NAME)
        right = scored(bench.tasks[task].metric, answers, examples)
        return float(1 - right.mean() + self.penalty * np.abs(weights).mean())
