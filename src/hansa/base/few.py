"""Figures of a few of many nodes: what would be an array of NaN but at their places."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from hansa.base import many

Figures: TypeAlias = "np.ndarray | Few"
"""Figures of n nodes, NaN where one has none."""
_BLOCK = 128  # numbers that NumPy adds up without halving them first


class Few:
    """Figures [n], float64, NaN but at ``at``; to NumPy it is that array.

    Attributes:
        n: how many nodes there are.
        at: int64 [k], the places of those that have a figure, ascending.
        values: float64 [k].
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.at, self.values = np.zeros(0, dtype=np.int64), np.zeros(0)

    def __len__(self) -> int:
        return self.n

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = np.full(self.n, np.nan)
        whole[self.at] = self.values
        return whole if dtype is None else whole.astype(dtype)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, int | np.integer):
            node = range(self.n)[at]
            place = np.searchsorted(self.at, node)
            has = place < len(self.at) and self.at[place] == node
            return self.values[place] if has else np.nan
        return np.asarray(self)[at]

    def __setitem__(self, at: Any, values: Any) -> None:
        self.put(at, values)

    def put(
        self,
        at: Any,
        values: Any,
        both: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    ) -> None:
        """Set figures at different places, or make of the old and the new what ``both`` does."""
        places = np.atleast_1d(self._places(at))
        new = np.broadcast_to(np.asarray(values, dtype=np.float64), places.shape)
        every = np.union1d(self.at, places)
        figures = np.full(len(every), np.nan)
        figures[np.searchsorted(every, self.at)] = self.values
        where = np.searchsorted(every, places)
        figures[where] = new if both is None else both(figures[where], new)
        has = ~np.isnan(figures)
        self.at, self.values = every[has], figures[has]

    def _places(self, at: Any) -> np.ndarray:
        """What NumPy takes for places [k], counted from the first."""
        if isinstance(at, slice):
            return np.arange(*at.indices(self.n))
        places = np.asarray(at)
        if places.dtype == bool and places.shape == (self.n,):
            return np.flatnonzero(places)
        if places.size and (
            places.dtype.kind not in "iu" or places.min() < -self.n or places.max() >= self.n
        ):
            raise IndexError(f"{at!r} are no places of {self.n} nodes")
        places = places.astype(np.int64)
        return np.where(places < 0, places + self.n, places)


def nobody(n: int) -> Figures:
    """Figures of n nodes of whom none has one yet."""
    return np.full(n, np.nan) if n < many.MANY else Few(n)


def known(figures: Figures) -> tuple[np.ndarray, np.ndarray]:
    """(places of those that have a figure, int64 [k], ascending; their figures [k])."""
    if isinstance(figures, Few):
        return figures.at, figures.values
    at = np.flatnonzero(~np.isnan(figures))
    return at, figures[at]


def mean(figures: Figures) -> float:
    """The mean of those that there are, to the bit as ``np.nanmean`` of the whole array."""
    if not isinstance(figures, Few):
        return float(np.nanmean(figures))
    if not len(figures.at):
        return math.nan
    return _sum(figures.at, figures.values, 0, figures.n) / len(figures.at)


def std(figures: Figures) -> float:
    """Their standard deviation, to the bit as ``np.nanstd`` of the whole array."""
    if not isinstance(figures, Few):
        return float(np.nanstd(figures))
    if not len(figures.at):
        return math.nan
    off = figures.values - mean(figures)
    return float(np.sqrt(_sum(figures.at, off * off, 0, figures.n) / len(figures.at)))


def _sum(at: np.ndarray, values: np.ndarray, start: int, n: int) -> float:
    """The sum of values at places from ``start`` on among zeros [n], in NumPy's pairwise order."""
    if not len(at):
        return 0.0
    if n <= _BLOCK:
        whole = np.zeros(n)
        whole[at - start] = values
        return float(whole.sum())
    half = n // 2
    half -= half % 8
    cut = int(np.searchsorted(at, start + half))
    left = _sum(at[:cut], values[:cut], start, half)
    return left + _sum(at[cut:], values[cut:], start + half, n - half)
