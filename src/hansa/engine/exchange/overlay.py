"""Weighted sums with messages that hold only part of a row's numbers, in place.

Numbers are gathered and scattered one by one: the work is that of what was sent, and no
neighbour's row or mask is ever made whole. Terms are added in the order of their sender's id.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import Lazy
from hansa.base.threads import over_rows
from hansa.codec.messages import SparseRows

if TYPE_CHECKING:
    from torch import Tensor

kernels = Lazy("hansa.engine.exchange.overlay_kernels")  # they need numba


def overlay_sparse_(
    rows: Tensor,
    starts: np.ndarray,
    ends: np.ndarray,
    slots: np.ndarray,
    weights: np.ndarray,
    table: SparseRows,
) -> None:
    """x_i += sum_e w_e (v - x_i) at the positions of message e, for rows x [n, K].

    The kernels run on the CPU; rows on another device are copied there and back.

    Args:
        starts, ends: int64 [n], the messages of receiver i are ``starts[i]:ends[i]``.
        slots: int64 [messages], which row of ``table`` each is.
        weights: float64 [messages].
    """
    _each_row(kernels.overlay, rows, starts, ends, slots, weights, table)


def add_sparse_(
    rows: Tensor, indptr: np.ndarray, slots: np.ndarray, weights: np.ndarray, table: SparseRows
) -> None:
    """x_i += sum_e w_e v at the positions of message e; those of x_i at indptr[i]:indptr[i+1]."""
    _each_row(kernels.add, rows, indptr[:-1], indptr[1:], slots, weights, table)


def scatter_add_(rows: Tensor, table: SparseRows, scale: np.ndarray | None = None) -> None:
    """x_k += scale_k * v at the positions of the k-th message, for rows x [n, K]."""
    n = len(rows)
    scale = np.ones(n) if scale is None else scale
    add_sparse_(rows, np.arange(n + 1), np.arange(n), scale, table)


def _each_row(work, rows, begins, ends, slots, weights, table) -> None:  # type: ignore[no-untyped-def]
    with on_cpu(rows) as numbers:
        scale = weights.astype(numbers.dtype)
        over_rows(work, len(numbers), numbers, begins, ends, slots, scale, *table.arrays)


@contextmanager
def on_cpu(rows: Tensor) -> Iterator[np.ndarray]:
    """Rows as numbers that may be changed in place; rows on another device are copied there and
    back."""
    here = rows.detach().cpu()
    yield here.numpy()
    if here.device != rows.device:
        rows.copy_(here)
