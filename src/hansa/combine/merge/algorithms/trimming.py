"""Which numbers of a task vector are large: ranks over a whole model, or tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.combine.merge.algorithms.merging import BlockFacts, spans

if TYPE_CHECKING:
    from torch import Tensor


def kept_count(density: float, numbers: int) -> int:
    """How many of so many numbers a density keeps: rounded down, at least one."""
    return min(numbers, max(1, math.floor(density * numbers + 1e-6)))


def ranked_values(vectors: Tensor, ranks: Sequence[int]) -> Tensor:
    """The absolute values of these ranks, 0 the largest: [n, d] -> [n, k]."""
    places = [vectors.shape[1] - 1 - rank for rank in ranks]
    rows = [at_ranks(vector.abs(), places) for vector in vectors]
    return torch.stack(rows)


def at_ranks(values: Tensor, places: Sequence[int]) -> Tensor:
    """What stands at these places [k] of values [d] once they are sorted.

    NumPy's partition is ten times as fast as torch's ``kthvalue``.
    """
    return torch.from_numpy(np.partition(values.numpy(), places)[places])


def trim(vectors: Tensor, density: float, about: BlockFacts, by_tensor: bool) -> Tensor:
    """Vectors [n, d] with all but their largest numbers set to 0.

    Numbers as large as the smallest that stays stay too. A tensor that is split by rows is trimmed
    part by part.

    Args:
        density: the share that stays.
        by_tensor: whether it is of each tensor (mergekit, PEFT) or of the whole model (TIES), for
            which ``about.cutoffs[:, 0]`` holds the smallest that stays.
    """
    if density >= 1:
        return vectors
    if not by_tensor:
        cutoffs = about.cutoffs
        if cutoffs is None:
            cutoffs = ranked_values(vectors, (kept_count(density, vectors.shape[1]) - 1,))
        return _from(vectors, cutoffs[:, :1])
    trimmed = torch.empty_like(vectors)
    for piece in about.pieces:
        if (size := piece.stop - piece.start) > 0:
            part = vectors[:, piece.start : piece.stop]
            cutoff = ranked_values(part, (kept_count(density, size) - 1,))
            trimmed[:, piece.start : piece.stop] = _from(part, cutoff)
    return trimmed


def _from(vectors: Tensor, cutoffs: Tensor) -> Tensor:
    """Row by row, so that no mask of all of them is made."""
    kept = torch.empty_like(vectors)
    for row, vector, cutoff in zip(kept, vectors, cutoffs, strict=True):
        for span in spans(len(vector)):
            torch.mul(vector[span], vector[span].abs() >= cutoff, out=row[span])
    return kept
