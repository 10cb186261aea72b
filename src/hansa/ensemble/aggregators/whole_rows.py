"""Aggregators that look at whole rows: how far they are from each other decides.

Rows are put into an order that depends on nothing but what they are (:func:`settled`) before sums
are taken or ties broken, so that both fall alike however rows come.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.base.streams import Streams
from hansa.ensemble.aggregators.aggregator import Buffered, alike

if TYPE_CHECKING:
    from torch import Tensor

_COLUMNS = 1 << 14
"""Numbers of a row that are looked at at a time."""


class WholeRows(Buffered):
    """An aggregator of sets of rows: it keeps them, n D numbers, at the end three times."""

    def combine(self, rows: Tensor, weights: np.ndarray) -> Tensor:
        return self.many(rows[None], weights)[0]

    def many(self, rows: Tensor, weights: np.ndarray | None = None) -> Tensor:
        m, n, size = rows.shape
        self.check_rows(n)
        if not m or not size:
            return rows.new_zeros(m, size)
        order = torch.from_numpy(settled(rows, weights)).to(rows.device)
        rows = rows.gather(1, order.unsqueeze(2).expand_as(rows))
        if weights is None or alike(weights):
            mass = torch.ones(m, n, dtype=torch.float64, device=rows.device)
        else:
            mass = torch.from_numpy(weights).to(rows.device)[order]
        return self.batch(rows, mass)

    @abstractmethod
    def batch(self, rows: Tensor, weights: Tensor) -> Tensor:
        """Rows [m, n, D] with weights float64 [m, n], each set for itself -> [m, D]."""


def settled(rows: Tensor, weights: np.ndarray | None = None) -> np.ndarray:
    """An order of the rows of each set that is a function of the rows alone: int64 [m, n].

    By a hash of a row's bits; of rows of the same bits the lighter come first.
    """
    keys = _keys(rows.detach().cpu().numpy())
    if weights is None or alike(weights):
        return np.argsort(keys, axis=1, kind="stable")
    lighter = np.argsort(weights, kind="stable")
    return lighter[np.argsort(keys[:, lighter], axis=1, kind="stable")]


def _keys(rows: np.ndarray) -> np.ndarray:
    """Hashes uint64 [m, n] of rows [m, n, D]."""
    bits = np.ascontiguousarray(rows).view({4: np.uint32, 8: np.uint64}[rows.itemsize])
    keys = np.zeros(rows.shape[:2], dtype=np.uint64)
    for first in range(0, rows.shape[2], _COLUMNS):
        piece = bits[:, :, first : first + _COLUMNS]
        # Wrapping products with odd numbers; the upper half is the well mixed one.
        keys += piece @ _factors(rows.shape[2])[first : first + _COLUMNS]
    return keys ^ (keys >> np.uint64(29))


@lru_cache(maxsize=4)
def _factors(size: int) -> np.ndarray:
    drawn = Streams(0).numpy("order of rows").integers(0, 1 << 63, size, dtype=np.uint64)
    return drawn * np.uint64(2) + np.uint64(1)


def mean_of_chosen(rows: Tensor, weights: Tensor, which: Tensor) -> Tensor:
    """The weighted means of chosen rows: rows [m, n, D], weights [m, n], which [m, k] -> [m, D]."""
    chosen = rows.gather(1, which.unsqueeze(2).expand(-1, -1, rows.shape[2]))
    mass = weights.gather(1, which)
    mass = (mass / mass.sum(1, keepdim=True)).to(rows.dtype)
    return (chosen * mass.unsqueeze(2)).sum(1)
