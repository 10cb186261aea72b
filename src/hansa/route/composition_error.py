"""What cheap ways to mix adapters get wrong: their distance from the exact delta, layer by layer.

The exact delta is ``sum_a w_a B_a A_a``. To average the factors instead, ``(sum w B)(sum w A)``
(LoraRetriever's fusion), or with square roots (PEFT's ``linear``), adds cross terms ``B_a A_b``
that nobody trained. Norms are taken in factor space: no delta is ever formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hansa.base.lazy import torch
from hansa.route.answering import Mixture

if TYPE_CHECKING:
    from torch import Tensor

    from hansa.route.slab import AdapterSlab

Approximation = Literal["fusion", "square_root"]
APPROXIMATIONS: tuple[Approximation, ...] = ("fusion", "square_root")
"""``fusion``: weights on both factors. ``square_root``: their roots on both, as PEFT's ``linear``
does, for adapters whose scales are one."""


@dataclass(frozen=True)
class CompositionError:
    """How far an approximation is from the exact delta.

    Attributes:
        method: the approximation.
        relative: norm of the difference / norm of the exact delta, over all layers (Frobenius).
        layers: the same for each layer.
    """

    method: Approximation
    relative: float
    layers: dict[str, float]


def composition_errors(slab: AdapterSlab, mixture: Mixture) -> list[CompositionError]:
    """The errors of the approximations for one mixture.

    Raises:
        ConfigError: it names an adapter that the slab does not hold.
    """
    mixture = mixture.folded()
    slab.check(mixture.adapters)
    held = [
        (weight, slab.factors(slab.name(adapter)))
        for adapter, weight in zip(mixture.adapters, mixture.weights, strict=True)
    ]
    errors = []
    for method in APPROXIMATIONS:
        layers, wrong, whole = {}, 0.0, 0.0
        for layer in slab.layers:
            parts = [
                (weight, factors[layer][0].double(), factors[layer][1].double())
                for weight, factors in held
                if layer in factors
            ]
            if not parts:
                continue
            a = torch.cat([a for _, a, _ in parts])
            b = torch.cat([w * b for w, _, b in parts], 1)
            fused_a, fused_b = _fused(method, parts)
            exact = _norm2(b, a)
            off = _norm2(torch.cat([b, -fused_b], 1), torch.cat([a, fused_a]))
            layers[layer] = _ratio(off, exact)
            wrong, whole = wrong + off, whole + exact
        errors.append(CompositionError(method, _ratio(wrong, whole), layers))
    return errors


def _fused(
    method: Approximation, parts: Sequence[tuple[float, Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """The averaged factors; an adapter of a smaller rank counts with zeros in the rest."""
    rank = max(len(a) for _, a, _ in parts)
    fused_a = torch.zeros(rank, parts[0][1].shape[1], dtype=torch.float64)
    fused_b = torch.zeros(parts[0][2].shape[0], rank, dtype=torch.float64)
    for weight, a, b in parts:
        share = weight if method == "fusion" else abs(weight) ** 0.5
        fused_a[: len(a)] += share * a
        fused_b[:, : len(a)] += (-share if method == "square_root" and weight < 0 else share) * b
    return fused_a, fused_b


def _norm2(b: Tensor, a: Tensor) -> float:
    """The squared Frobenius norm of ``b @ a``, never below 0."""
    return max(float(((b.T @ b) * (a @ a.T)).sum()), 0.0)


def _ratio(off: float, exact: float) -> float:
    return (off / exact) ** 0.5 if exact else 0.0
