"""Adding each row's own mixture of low-rank deltas, in three ways that give the same.

Shapes: n rows of a batch, s positions a row, R rows of factors that any row of the batch uses, K
rows of factors of one row's mixture. The factors are laid as a slab lays them: A as [·, inputs],
B transposed as [·, outputs]. All write into ``out``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Scratch:
    """Room for the factors of a batch, used again from layer to layer.

    Fresh memory for each layer costs more than the copies themselves. Not for two threads at once.
    """

    def __init__(self) -> None:
        self._rooms: dict[object, Tensor] = {}

    def rows(self, side: str, source: Tensor, index: Tensor, like: Tensor) -> Tensor:
        """``source[index]`` [k, width] in the type of ``like``, until the next call for this side.

        Where ``like`` needs gradients, which keep what was multiplied, it is memory of its own.
        """
        if like.requires_grad and torch.is_grad_enabled():
            return source.index_select(0, index).to(like.dtype)
        shape = (len(index), source.shape[1])
        picked = torch.index_select(source, 0, index, out=self._room(side, shape, source.dtype))
        if source.dtype == like.dtype:
            return picked
        return self._room(side, shape, like.dtype).copy_(picked)

    def _room(self, side: str, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        # What inference mode makes cannot be written to outside of it.
        key, size = (side, dtype, torch.is_inference_mode_enabled()), shape[0] * shape[1]
        if key not in self._rooms or self._rooms[key].numel() < size:
            self._rooms[key] = torch.empty(size, dtype=dtype)
        return self._rooms[key][:size].view(shape)


def union(
    x: Tensor, out: Tensor, a: Tensor, b: Tensor, index: Tensor, weights: Tensor, scratch: Scratch
) -> Tensor:
    """Two plain products over all factors in use; weights between them make rows differ.

    Args:
        x: [n, s, inputs].
        out: [n, s, outputs], to which the deltas are added.
        a, b: [·, inputs] and [·, outputs], the slab's.
        index: [R], the factors in use.
        weights: [n, R]; 0 where a row does not use a factor.
    """
    n, s, inputs = x.shape
    of_a, of_b = scratch.rows("a", a, index, x), scratch.rows("b", b, index, x)
    hidden = (x.reshape(n * s, inputs) @ of_a.T).view(n, s, -1).mul_(weights[:, None])
    out.view(n * s, -1).addmm_(hidden.view(n * s, -1), of_b)
    return out


def gathered(
    x: Tensor, out: Tensor, a: Tensor, b: Tensor, index: Tensor, weights: Tensor, scratch: Scratch
) -> Tensor:
    """A batched product: each row meets its own factors only.

    The weights go between the two products, where numbers are fewest. The copies of factors are
    small enough to stay in a cache, so they are made anew in each layer and pass.

    Args:
        x: [n, s, inputs].
        out: [n, s, outputs], to which the deltas are added.
        a, b: [·, inputs] and [·, outputs], the slab's.
        index: [n, K], each row's factors.
        weights: [n, K].
    """
    n, own = index.shape
    flat = index.view(-1)
    of_a = scratch.rows("a", a, flat, x).view(n, own, -1)
    of_b = scratch.rows("b", b, flat, x).view(n, own, -1)
    hidden = torch.bmm(x, of_a.transpose(1, 2)).mul_(weights[:, None])
    return out.baddbmm_(hidden, of_b)


def segments(
    x: Tensor,
    out: Tensor,
    a: Tensor,
    b: Tensor,
    parts: Mapping[tuple[int, int], tuple[Tensor, Tensor]],
) -> Tensor:
    """One adapter after another, each on the rows that use it.

    Args:
        x: [n, s, inputs].
        out: [n, s, outputs], to which the deltas are added.
        a, b: [·, inputs] and [·, outputs], the slab's.
        parts: (first row, rank) of each adapter -> (rows [m] of the batch, their weights [m]).
    """
    for (start, rank), (rows, weights) in parts.items():
        of_a = a[start : start + rank].to(x.dtype)
        hidden = torch.matmul(x[rows], of_a.T).mul_(weights[:, None, None])
        out.index_add_(0, rows, hidden @ b[start : start + rank].to(x.dtype))
    return out
