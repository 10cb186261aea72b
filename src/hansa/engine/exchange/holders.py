"""Means over those who hold a number, where not everybody holds all: ratings, scaled-down models.

As in ``overlay.py`` the work is that of what was sent; terms are added in the order of their
sender's id, the receiver's own at its place, so a split of the nodes does not change a bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import Lazy
from hansa.base.threads import over_rows
from hansa.codec.messages import SparseRows
from hansa.engine.exchange.overlay import on_cpu

if TYPE_CHECKING:
    from torch import Tensor

kernels = Lazy("hansa.engine.exchange.overlay_kernels")  # they need numba


def mix_held_rows_(
    rows: Tensor,
    held: np.ndarray,
    indptr: np.ndarray,
    slots: np.ndarray,
    weights: np.ndarray,
    takes: np.ndarray,
    table: SparseRows,
    lend: bool = False,
) -> None:
    """Replace each group of each row by the mean over those who hold it, in place.

    Args:
        rows: x [n, K]; the kernels run on the CPU, rows on another device are copied there and
            back.
        held: bool [n, K / group], the groups that each receiver holds; those that it takes over
            are set.
        indptr: int64 [n+1], receiver i's terms are ``indptr[i]:indptr[i+1]``, by sender.
        slots: int64 [terms], which row of ``table`` each is; below 0: the receiver's own.
        weights: float64 [terms], of those who hold a group, for a receiver that does.
        takes: float64 [terms], the same for a receiver that does not; 0: it takes none.
        lend: the weight of those who lack a group is the receiver's (x_i += sum_j w_ij (m_j -
            x_i) over the holders), not shared out among the holders.

    Raises:
        ValueError: ``held`` is not of the messages' groups.
    """
    _check(rows, held, table)
    with on_cpu(rows) as numbers:
        scale = weights.astype(numbers.dtype)
        terms = (held, indptr, slots, scale, weights, takes, lend)
        over_rows(kernels.mix_held, len(numbers), numbers, *terms, *table.arrays)


def halve_held_rows_(
    rows: Tensor, held: np.ndarray, indptr: np.ndarray, slots: np.ndarray, table: SparseRows
) -> None:
    """Replace each group by the mean of it and what was heard, message after message, in place.

    Args:
        rows, held, table: as for :func:`mix_held_rows_`; a group that a receiver lacks is copied.
        indptr: int64 [n+1], receiver i's messages are ``indptr[i]:indptr[i+1]``, in order.
        slots: int64 [messages], which row of ``table`` each is.

    Raises:
        ValueError: ``held`` is not of the messages' groups.
    """
    _check(rows, held, table)
    with on_cpu(rows) as numbers:
        over_rows(kernels.halve_held, len(numbers), numbers, held, indptr, slots, *table.arrays)


def _check(rows: Tensor, held: np.ndarray, table: SparseRows) -> None:
    places = table.places
    if held.shape != (len(rows), places) or rows.shape[1] != table.size or held.dtype != bool:
        form = f"{held.dtype} {list(held.shape)}"
        raise ValueError(f"held is {form} where bool {[len(rows), places]} is due")
