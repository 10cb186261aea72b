"""How alike task vectors are within a block: one Gram matrix, from which every linkage follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

_COLUMNS = 1 << 16
"""Numbers of each vector that are multiplied at a time: a float32 sum of more would lose digits."""


def gram_matrix(vectors: Tensor) -> np.ndarray:
    """Inner products of vectors float32 [n, d] with each other: float64 [n, n].

    Products are summed in float32 over some columns and in float64 over all.
    """
    total = torch.zeros(len(vectors), len(vectors), dtype=torch.float64)
    for part in vectors.split(_COLUMNS, dim=1):
        total += part @ part.T
    matrix = total.numpy()
    return (matrix + matrix.T) / 2


def cosines(gram: np.ndarray) -> np.ndarray:
    """Cosines [n, n] of a Gram matrix [n, n]; a vector of zeros is like nothing else: 0.

    FlexMerge divides by the product of norms plus 1e-8, which makes small vectors less alike than
    they are; here nothing is added.
    """
    norms = np.sqrt(np.maximum(gram.diagonal(), 0))
    products = np.outer(norms, norms)
    alike = np.divide(gram, products, out=np.zeros_like(gram), where=products > 0)
    np.clip(alike, -1, 1, out=alike)
    np.fill_diagonal(alike, 1)
    return alike
