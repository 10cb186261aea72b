"""Routing inside the model: every layer and token chooses adapters by how they would act on it.

ARROW (Ostapenko et al. 2024): an adapter's prototype in a layer is the top right singular vector v
of B A, of length 1; a token x gets the logit abs(v . x). SpectR (Fleshman and Van Durme 2025) uses
the whole spectrum: B A = U S V', and the logit is the norm of S V' x, which is that of B A x. We
have its abstract and no formula of its code; this is our reading. Both keep the top k, take a
softmax with a temperature, and mix outputs. Neither looks at tasks or validation scores.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.route.answering import BASE
from hansa.route.bench import Bench
from hansa.route.methods.method import RoutingMethod
from hansa.route.pool_scorer import answered

if TYPE_CHECKING:
    from torch import Tensor


class _TokenRouting(RoutingMethod):
    top_k: int = Field(3, ge=1, description="adapters that a token keeps in a layer")
    temperature: float = Field(1.0, gt=0, description="of the softmax over them")

    @abstractmethod
    def judged(self, a: Tensor, b: Tensor) -> Tensor:
        """float [G, r or 1, in]: the logit of a token x is the norm of this times x.

        Args:
            a: [G, r, in] of G adapters.
            b: [G, r, out].
        """

    def answers(self, bench: Bench) -> tuple[list[str], float]:
        said = [""] * len(bench.queries)
        pools: dict[tuple[int, ...], list[int]] = {}
        for task, places in bench.groups():
            pools.setdefault(tuple(bench.pool(task)), []).extend(places.tolist())
        touched = 0.0
        for pool, rows in pools.items():
            names = [bench.matrix.adapters[a] for a in pool]
            touched += len(rows) * min(self.top_k, len(pool))
            with self.acting(bench, names):
                queries = [bench.queries[k] for k in rows]
                answers = answered(bench.model, queries, [BASE] * len(rows), bench.batch)
            for k, answer in zip(rows, answers, strict=True):
                said[k] = answer
        return said, touched / max(1, len(said))

    @contextlib.contextmanager
    def acting(self, bench: Bench, names: Sequence[str]) -> Iterator[None]:
        """While it lasts, the base's layers route their tokens over these adapters."""
        slab, module = bench.model.slab, bench.model.module
        each = [slab.factors(name) for name in names]
        handles = []
        for layer, (inputs, outputs) in slab.linears.items():
            pairs = [factors[layer] for factors in each if layer in factors]
            if not pairs:
                continue
            rank = max(a.shape[0] for a, _ in pairs)
            a = torch.zeros(len(pairs), rank, inputs)
            b = torch.zeros(len(pairs), rank, outputs)
            for g, (one, other) in enumerate(pairs):
                a[g, : one.shape[0]], b[g, : one.shape[0]] = one.float(), other.float().T
            hook = self._hook(a, b, self.judged(a, b))
            handles.append(module.get_submodule(layer).register_forward_hook(hook))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, a: Tensor, b: Tensor, judge: Tensor) -> Any:
        count, rank, inputs = a.shape

        def route(layer: Any, arguments: tuple[Tensor, ...], out: Tensor) -> Tensor:
            x = arguments[0].reshape(-1, inputs)
            logits = (x @ judge.reshape(-1, inputs).T).view(len(x), count, -1).norm(dim=-1)
            best = logits.topk(min(self.top_k, count), dim=-1)
            weights = torch.zeros_like(logits)
            weights.scatter_(1, best.indices, (best.values / self.temperature).softmax(-1))
            inner = (x @ a.reshape(-1, inputs).T).view(len(x), count, rank) * weights.unsqueeze(-1)
            return out + (inner.flatten(1) @ b.flatten(0, 1)).view(out.shape)

        return route


@register("arrow", paper="Ostapenko et al.", year=2024, url="https://arxiv.org/abs/2405.11157")
class Arrow(_TokenRouting):
    """ARROW: each token goes to the adapters whose strongest input direction it lies along."""

    def judged(self, a: Tensor, b: Tensor) -> Tensor:
        # B A = B R' Q' with A' = Q R: its right singular vectors are Q times those of B R'.
        q, r = torch.linalg.qr(a.transpose(1, 2))
        _, _, vh = torch.linalg.svd(b.transpose(1, 2) @ r.transpose(1, 2), full_matrices=False)
        return (vh[:, :1] @ q.transpose(1, 2)).contiguous()


@register("spectr", paper="Fleshman, Van Durme", year=2025, url="https://arxiv.org/abs/2504.03454")
class SpectR(_TokenRouting):
    """SpectR: each token goes to the adapters that would change it most, by the whole spectrum."""

    def judged(self, a: Tensor, b: Tensor) -> Tensor:
        q, r = torch.linalg.qr(a.transpose(1, 2))
        _, s, vh = torch.linalg.svd(b.transpose(1, 2) @ r.transpose(1, 2), full_matrices=False)
        return (s.unsqueeze(-1) * (vh @ q.transpose(1, 2))).contiguous()
