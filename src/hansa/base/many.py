"""Arrays of very many nodes of whom few do anything: they take memory for those alone.

A million clients of whom fifty take part in a round must not cost eight megabytes a counter. Below
:data:`MANY` nodes all of this is what NumPy does by itself; above, the numbers are the same ones.
"""

from __future__ import annotations

import contextlib
import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

MANY = 1 << 16
"""Nodes from which on it is worth the trouble."""
_PIECE = 1 << 16


def zeros(n: int, dtype: Any = "float64") -> np.ndarray:
    """Zeros [n]; of many, a page of memory is only taken once something is written to it.

    NumPy's own would come in pages of two megabytes, and torch's are written to at once.
    """
    kind = np.dtype(dtype)
    if n < MANY or not hasattr(mmap, "MAP_ANONYMOUS"):
        return np.zeros(n, dtype=kind)
    pages = mmap.mmap(-1, n * kind.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel that has no huge pages
            pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, dtype=kind)


def counter(n: int, dtype: Any = "int64") -> Tensor:
    """:func:`zeros` as a tensor."""
    return torch.from_numpy(zeros(n, dtype))


def add_(counter: Tensor, values: np.ndarray) -> None:
    """Add values [n] to a counter [n], in place; of many, to those that have something to add."""
    if len(values) < MANY:
        counter.add_(torch.from_numpy(values))
        return
    some = np.flatnonzero(values)
    counter.numpy()[some] += values[some]


def tally(at: np.ndarray, n: int, weights: np.ndarray | None = None) -> np.ndarray:
    """How often each of n places is in ``at``, int64 [n], or the sum of its ``weights``, int64."""
    counts = zeros(n, np.int64)
    np.add.at(counts, at, 1 if weights is None else weights)
    return counts


def differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where two arrays [n] differ, int64, ascending."""
    places = [np.zeros(0, dtype=np.int64)]
    for start in range(0, len(one), _PIECE):
        span = slice(start, start + _PIECE)
        places.append(np.flatnonzero(one[span] != other[span]) + start)
    return np.concatenate(places)


def copied(values: np.ndarray) -> np.ndarray:
    """A copy [n]; of many, one that takes memory where there is something but zeros."""
    if len(values) < MANY:
        return values.copy()
    copy = zeros(len(values), values.dtype)
    some = np.flatnonzero(values)
    copy[some] = values[some]
    return copy
