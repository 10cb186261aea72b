"""Adapters averaged factor by factor: what mixing outputs is often mistaken for.

A_f = sum w A, B_f = sum w B, y = W x + B_f A_f x (LoraRetriever's fusion): the product has cross
terms B_i A_j. Ranks may differ: smaller ones are padded with zeros; scales stand in B.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.route.answering import BASE, Mixture
from hansa.route.bench import Bench
from hansa.route.methods.method import RoutingMethod
from hansa.route.methods.uniform import Uniform
from hansa.route.pool_scorer import answered
from hansa.route.slab import AdapterSlab

if TYPE_CHECKING:
    from torch import Tensor

_AT_ONCE = 32
"""Fused adapters in the slab at one time."""


@register("fusion")
class Fusion(RoutingMethod):
    """As uniform, but factors are averaged and not outputs: cross terms spoil it."""

    k: int = Field(3, ge=1, description="tasks that are kept")

    def answers(self, bench: Bench) -> tuple[list[str], float]:
        mixtures = [mixture.folded() for mixture in Uniform(k=self.k).mixtures(bench)]
        touched = sum(len(mixture.adapters) for mixture in mixtures) / max(1, len(mixtures))
        return fused_answers(bench, mixtures), touched


def fused_answers(bench: Bench, mixtures: Sequence[Mixture]) -> list[str]:
    """Answers of queries whose mixtures over the pool are fused factor by factor."""
    slab, said = bench.model.slab, [""] * len(mixtures)
    sets = list(dict.fromkeys(mixtures))
    for start in range(0, len(sets), _AT_ONCE):
        places = {}
        try:
            for number, mixture in enumerate(sets[start : start + _AT_ONCE]):
                name = f"fused:{number}"
                named = {bench.matrix.adapters[a]: w for a, w in _pairs(mixture)}
                if named:
                    places[mixture] = (name, slab.add(name, fused(slab, named)))
                else:
                    places[mixture] = ("", -1)
            rows = [k for k, mixture in enumerate(mixtures) if mixture in places]
            alone = [
                Mixture((places[mixtures[k]][1],), (1.0,)) if places[mixtures[k]][0] else BASE
                for k in rows
            ]
            queries = [bench.queries[k] for k in rows]
            for k, answer in zip(
                rows, answered(bench.model, queries, alone, bench.batch), strict=True
            ):
                said[k] = answer
        finally:
            for name, _ in places.values():
                if name:
                    slab.remove(name)
    return said


def _pairs(mixture: Mixture) -> list[tuple[int, float]]:
    return list(zip(mixture.adapters, mixture.weights, strict=True))


def fused(slab: AdapterSlab, weights: Mapping[str, float]) -> dict[str, tuple[Tensor, Tensor]]:
    """Layer -> (sum w A [r, in], sum w B [out, r]) of adapters by name, r the largest rank."""
    each = {name: slab.factors(name) for name in weights}
    layers = dict.fromkeys(layer for factors in each.values() for layer in factors)
    result = {}
    for layer in layers:
        pairs = [(w, *each[name][layer]) for name, w in weights.items() if layer in each[name]]
        rank = max(a.shape[0] for _, a, _ in pairs)
        inputs, outputs = slab.linears[layer]
        first, second = torch.zeros(rank, inputs), torch.zeros(outputs, rank)
        for weight, a, b in pairs:
            first[: a.shape[0]] += weight * a.float()
            second[:, : a.shape[0]] += weight * b.float()
        result[layer] = (first, second)
    return result
