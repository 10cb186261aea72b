"""A pool as the public ones are: some adapters barely work, and many are noise."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from hansa.base.lazy import torch
from hansa.base.streams import Streams
from hansa.engine.settings import Settings
from hansa.route.slab import AdapterSlab

if TYPE_CHECKING:
    from torch import Tensor

Factors = Mapping[str, tuple["Tensor", "Tensor"]]


class Noise(Settings):
    """How a pool is spoilt."""

    weakened: float = Field(0.5, ge=0, le=1, description="share of the adapters that is weakened")
    factor: float = Field(0.2, ge=0, le=1, description="what is left of a weakened one's B")
    adapters: int = Field(60, ge=0, description="adapters of noise that are added")


def spoilt(
    slab: AdapterSlab, names: Sequence[str], noise: Noise, seed: int
) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """Put a spoilt copy of a pool beside it in the slab.

    A weakened adapter has its B multiplied by the factor. One of noise has normal numbers in the
    layers of an adapter of the pool, with the norms of that one's factors.

    Args:
        names: the pool, in the slab.

    Returns:
        (names of the spoilt pool, their digests, the original of each that has one). What is
        neither weakened nor noise is in it under its own name.
    """
    rng = Streams(seed).numpy("noise")
    weak = set(rng.permutation(len(names))[: round(noise.weakened * len(names))].tolist())
    pool, digests, originals = [], {}, {}
    for place, name in enumerate(names):
        called = f"weakened {name}" if place in weak else name
        factors = slab.factors(name)
        if place in weak:
            factors = {layer: (a.float(), noise.factor * b.float())
                       for layer, (a, b) in factors.items()}  # fmt: skip
            slab.add(called, factors)
        pool.append(called)
        originals[name] = called
        digests[called] = digest(factors)
    for number in range(noise.adapters):
        like = slab.factors(names[number % len(names)])
        draw = torch.Generator().manual_seed(Streams(seed).integer(f"noise {number}"))
        factors = {
            layer: (_like(a, draw), _like(b, draw)) for layer, (a, b) in sorted(like.items())
        }
        called = f"noise {number}"
        slab.add(called, factors)
        pool.append(called)
        digests[called] = digest(factors)
    return pool, digests, originals


def _like(factor: Tensor, draw: torch.Generator) -> Tensor:
    raw = torch.randn(factor.shape, generator=draw)
    return raw * (factor.float().norm() / raw.norm())


def digest(factors: Factors) -> str:
    """SHA-256 of factors in memory."""
    whole = hashlib.sha256()
    for layer, pair in sorted(factors.items()):
        for factor in pair:
            whole.update(f"{layer} {tuple(factor.shape)} ".encode())
            whole.update(factor.detach().float().contiguous().numpy().tobytes())
    return whole.hexdigest()
