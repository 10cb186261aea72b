"""The factors of all adapters on one linear layer, laid end to end in two tensors.

An adapter of rank r holds r rows: adapters of different ranks lie side by side without padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hansa.base.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

FIRST_CAPACITY = 64
"""Rows that are laid out at the beginning; doubled when they do not suffice."""


class FactorRows:
    """Rows of A and of B's transpose, and which of them are whose.

    Row 0 is zeros and nobody's: what pads a shorter adapter in a batch points to it, so that
    padding multiplies zeros, never another's numbers.

    Args:
        inputs, outputs: sizes of the layer.
        dtype: of the stored factors.

    Attributes:
        a: [capacity, inputs].
        b: [capacity, outputs]; B's columns.
        extents: adapter -> (first row, rank). Of an adapter that lacks the layer none.
    """

    def __init__(self, inputs: int, outputs: int, dtype: torch.dtype) -> None:
        self.a = torch.empty(FIRST_CAPACITY, inputs, dtype=dtype)
        self.b = torch.empty(FIRST_CAPACITY, outputs, dtype=dtype)
        self.a[0] = self.b[0] = 0
        self.extents: dict[int, tuple[int, int]] = {}
        self._free: list[tuple[int, int]] = []
        self._end = 1

    @property
    def used(self) -> int:
        """Rows that are somebody's."""
        return sum(rank for _, rank in self.extents.values())

    def rank(self, adapter: int) -> int:
        """The adapter's rank here; 0 where it lacks the layer."""
        return self.extents.get(adapter, (0, 0))[1]

    def reserve(self, more: int) -> None:
        """Make room for so many rows at once: growing step by step copies what is there."""
        if (needed := self._end + more) > len(self.a):
            self._grow(needed)

    def put(self, adapter: int, a: Tensor, b: Tensor) -> None:
        """Lay down an adapter's factors, in place of what it had.

        Args:
            a: [rank, inputs].
            b: [outputs, rank], the scale folded in.
        """
        self.drop(adapter)
        rank = len(a)
        start = self._room_for(rank)
        self.a[start : start + rank] = a
        self.b[start : start + rank] = b.T
        self.extents[adapter] = (start, rank)

    def drop(self, adapter: int) -> None:
        """Give an adapter's rows to the next that fits."""
        extent = self.extents.pop(adapter, None)
        if extent is None:
            return
        start, rank = extent
        self.a[start : start + rank] = 0
        self.b[start : start + rank] = 0
        free: list[tuple[int, int]] = []
        for first, length in sorted([*self._free, extent]):  # neighbours become one
            if free and free[-1][0] + free[-1][1] == first:
                free[-1] = (free[-1][0], free[-1][1] + length)
            else:
                free.append((first, length))
        if free[-1][0] + free[-1][1] == self._end:
            self._end = free.pop()[0]
        self._free = free

    def _room_for(self, rank: int) -> int:
        for k, (start, length) in enumerate(self._free):
            if length >= rank:
                rest = (start + rank, length - rank)
                self._free[k : k + 1] = [rest] if rest[1] else []
                return start
        if self._end + rank > len(self.a):
            self._grow(max(self._end + rank, 2 * len(self.a)))
        start, self._end = self._end, self._end + rank
        return start

    def _grow(self, capacity: int) -> None:
        for name in ("a", "b"):
            before = getattr(self, name)
            larger = torch.empty(capacity, before.shape[1], dtype=before.dtype)
            larger[: self._end] = before[: self._end]
            setattr(self, name, larger)
