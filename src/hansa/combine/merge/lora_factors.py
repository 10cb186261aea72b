"""Sums and inner products of LoRA deltas, without ever forming a delta.

A delta is ``B A`` with B [out, r] and A [r, in]. The inner product of two is the sum of all of
``(B1ᵀ B2) * (A1 A2ᵀ)``, r x r numbers, not in x out. A weighted sum of deltas is the product of
the factors laid side by side, whose best approximation of a rank is an SVD of a small core (Eckart
and Young, 1936).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch, without_gradients
from hansa.weights.lora_folder import LoraFactors

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK = 1 << 23
"""Numbers of an intermediate matrix that are made at a time at most (32 MB)."""

_ROWS = 512
"""Rows of it at most: the fewer, the less of the other symmetric half is made."""


def inner_product(one: LoraFactors, other: LoraFactors) -> float:
    """The inner product of two deltas, in double precision."""
    right = one.a.double() @ other.a.double().T
    return float(((one.b.double().T @ other.b.double()) * right).sum())


@without_gradients
def gram(factors: Sequence[LoraFactors]) -> np.ndarray:
    """The inner products [n, n] of n deltas of one module, whatever their ranks.

    All factors are stacked, so that two matrix products give all pairs; of the symmetric halves
    one is made, some rows at a time.
    """
    ranks = np.array([len(pair.a) for pair in factors])
    starts = np.concatenate([[0], np.cumsum(ranks)])
    a = torch.cat([pair.a for pair in factors])
    b = torch.cat([pair.b for pair in factors], 1).T.contiguous()
    products = np.zeros((len(factors), len(factors)))
    first = 0
    while first < len(factors):
        rows = max(1, min(_ROWS, _CHUNK // max(1, int(starts[-1] - starts[first]))))
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + rows, "right")) - 1)
        part, rest = slice(starts[first], starts[last]), slice(starts[first], None)
        both = (a[part] @ a[rest].T).mul_(b[part] @ b[rest].T).numpy()
        columns = np.add.reduceat(both, starts[first:-1] - starts[first], axis=1, dtype=np.float64)
        sums = np.add.reduceat(columns, starts[first:last] - starts[first], axis=0)
        products[first:last, first:] = sums
        products[first:, first:last] = sums.T
        first = last
    return products


@dataclass(frozen=True)
class MergedFactors:
    """A weighted sum of deltas.

    Attributes:
        norm: of the exact sum (Frobenius).
        error: norm of what a smaller rank lost, 0 where nothing was cut.
    """

    factors: LoraFactors
    norm: float
    error: float


@without_gradients
def merged(
    parts: Sequence[LoraFactors], coefficients: Sequence[float], rank: int | None = None
) -> MergedFactors:
    """The weighted sum of deltas as one pair of factors.

    Exact as long as the ranks add up to no more than ``rank``: factors laid side by side. Else the
    nearest of that rank: QR of both sides, SVD of the core.

    Args:
        rank: of the result at most; None keeps all.

    Raises:
        ValueError: no part, or a rank below 1.
    """
    if not parts or (rank is not None and rank < 1):
        raise ValueError("a sum needs a part, and a rank above 0")
    a = torch.cat([pair.a for pair in parts]).double()
    b = torch.cat(
        [pair.b.double() * weight for pair, weight in zip(parts, coefficients, strict=True)], 1
    )
    if rank is None or len(a) <= rank:
        norm2 = float(((b.T @ b) * (a @ a.T)).sum())
        return MergedFactors(LoraFactors(a.float(), b.float()), max(norm2, 0.0) ** 0.5, 0.0)
    left, core_b = torch.linalg.qr(b)
    right, core_a = torch.linalg.qr(a.T)
    u, values, v = torch.linalg.svd(core_b @ core_a.T, full_matrices=False)
    root = values[:rank].sqrt()
    short = LoraFactors(
        ((root[:, None] * v[:rank]) @ right.T).float(), ((left @ u[:, :rank]) * root).float()
    )
    return MergedFactors(short, _norm(values), _norm(values[rank:]))


def _norm(values: Tensor) -> float:
    return float(values.square().sum().sqrt())
