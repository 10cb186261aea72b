"""TSV-M: the strongest singular directions of every task, made orthogonal to one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.combine.merge.algorithms.merging import BlockFacts, Merged, MergingAlgorithm

if TYPE_CHECKING:
    from torch import Tensor

    from hansa.combine.merge.algorithms.merging import Rows


@register("tsv_m", paper="Gargiulo et al.", year=2025, url="https://arxiv.org/abs/2412.00081")
class TsvM(MergingAlgorithm):
    """Task singular vectors (Gargiulo et al., CVPR 2025, algorithm 1).

    Of each task's matrix the strongest 1/n of the singular triples stay; the left and the right
    vectors of all tasks are made orthonormal by the nearest orthonormal matrix (Procrustes). What
    is no matrix is averaged.
    """

    scale: float = Field(1.0, description="alpha, what the result is multiplied with")

    def combine(self, taus: Rows, prepared: Rows, about: BlockFacts) -> Merged:
        merged = torch.empty_like(prepared[0])
        for piece in about.pieces:
            parts = torch.stack([piece.of(row) for row in prepared])
            flat = len(piece.shape) != 2 or min(piece.shape) == 0
            whole = parts.mean(0) if flat else merged_matrix(parts)
            merged[piece.start : piece.stop] = whole.flatten()
        return Merged(merged.mul_(self.scale))


def merged_matrix(matrices: Tensor) -> Tensor:
    """One matrix [a, b] of n matrices [n, a, b]."""
    count = len(matrices)
    rank = max(1, min(matrices.shape[1:]) // count)
    left, values, right = [], [], []
    for matrix in matrices:
        u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
        left.append(u[:, :rank])
        values.append(s[:rank])
        right.append(vh[:rank])
    u, v = nearest_orthonormal(torch.cat(left, 1)), nearest_orthonormal(torch.cat(right))
    return (u * torch.cat(values)) @ v


def nearest_orthonormal(matrix: Tensor) -> Tensor:
    """The matrix with orthonormal columns or rows nearest to one [a, b]: U V' of its SVD."""
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u @ vh
