"""Combiners: one prediction out of those of n models.

A combiner is anything that maps logits [n, m, C] to [m, C]: a function of this file, or a
``torch.nn.Module`` with trained parameters of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hansa.base.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


class Combiner(Protocol):
    """What combines the scores of n models."""

    def __call__(self, logits: Tensor, /) -> Tensor:
        """Logits [n, m, C] -> [m, C]."""
        ...


def average(logits: Tensor) -> Tensor:
    """The mean over models: [n, m, C] -> [m, C]."""
    return logits.mean(0)


def weighted_logits(logits: Tensor, weights: Tensor) -> Tensor:
    """z_mc = sum_i p_ic z_imc: logits [n, m, C] and weights [n, C] -> [m, C].

    Raises:
        ValueError: the shapes do not fit.
    """
    if logits.ndim != 3 or weights.shape != (logits.shape[0], logits.shape[2]):
        raise ValueError(
            f"logits [n, m, C] need weights [n, C], not {list(logits.shape)} and "
            f"{list(weights.shape)}"
        )
    return torch.einsum("nmc,nc->mc", logits, weights.to(logits))


@dataclass(frozen=True)
class Weighted:
    """:func:`weighted_logits` with fixed weights [n, C], such as those of ``label_weights``."""

    weights: Tensor

    def __call__(self, logits: Tensor, /) -> Tensor:
        """Logits [n, m, C] -> [m, C]."""
        return weighted_logits(logits, self.weights)
