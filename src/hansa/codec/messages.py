"""The forms of what nodes send: whole rows, some numbers of a row, tables, or raw bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from hansa.base.lazy import torch
from hansa.codec.table_messages import Tables

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class SparseRows:
    """Some of the numbers of n rows of ``size`` numbers each.

    Attributes:
        indptr: int64 [n+1]; the k-th row's part is ``indptr[k]:indptr[k+1]``.
        positions: int64 [numbers], ascending within a row.
        values: float32 [numbers], on the CPU: positions are found and sent there.
        size: K, numbers in a whole row.
        seeds: uint64 [n] where the positions follow from a seed and a share, else None.
        share: the share of a row that seeded positions were drawn with.
    """

    indptr: np.ndarray
    positions: np.ndarray
    values: Tensor
    size: int
    seeds: np.ndarray | None = None
    share: float = 1.0

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def counts(self) -> np.ndarray:
        """int64 [n]: how many numbers of each row there are."""
        return np.diff(self.indptr)

    def row(self, k: int) -> tuple[np.ndarray, Tensor]:
        """(positions, values) of one row."""
        span = slice(int(self.indptr[k]), int(self.indptr[k + 1]))
        return self.positions[span], self.values[span]

    def with_values(self, values: Tensor) -> SparseRows:
        """The same positions with other values."""
        return SparseRows(self.indptr, self.positions, values, self.size, self.seeds, self.share)

    @classmethod
    def of(cls, rows: Tensor, positions: Sequence[np.ndarray]) -> SparseRows:
        """The numbers of ``rows`` [n, K] at these positions, one ascending array a row.

        Args:
            rows: on any device.
        """
        counts = [len(p) for p in positions]
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        flat = np.concatenate(positions) if len(positions) else np.zeros(0)
        flat = flat.astype(np.int64)
        owners = np.repeat(np.arange(len(counts)), counts)
        values = rows[torch.from_numpy(owners), torch.from_numpy(flat)]
        return cls(indptr, flat, values.cpu(), rows.shape[1])


@dataclass(frozen=True, eq=False)
class Packets:
    """Raw bytes, one packet a message; for protocols that are not about rows of numbers."""

    packets: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.packets)


Messages: TypeAlias = "torch.Tensor | SparseRows | Packets | Tables"


def select(messages: Messages, which: np.ndarray, shared: bool = False) -> Messages:
    """The messages at these indices.

    Args:
        shared: whole rows that lie side by side need not be copied, as nobody changes them.
    """
    if isinstance(messages, torch.Tensor):
        if shared and len(which) and (np.diff(which) == 1).all():
            return messages[int(which[0]) : int(which[-1]) + 1]
        return messages[torch.from_numpy(which).to(messages.device)]
    if isinstance(messages, Packets):
        return Packets(tuple(messages.packets[k] for k in which))
    if isinstance(messages, Tables):
        return messages.select(which)
    chosen = _sparse([messages.row(int(k)) for k in which], messages.size)
    if messages.seeds is None:
        return chosen
    return replace(chosen, seeds=messages.seeds[which], share=messages.share)


def concatenate(parts: Sequence[Messages]) -> Messages:
    """Messages of one form, one after the other; at least one part. Seeds are not kept.

    The only one of several parts that is not empty is not copied.
    """
    first = parts[0]
    if isinstance(first, torch.Tensor):
        full = [p for p in parts if isinstance(p, torch.Tensor) and len(p)]
        return torch.cat(full) if len(full) > 1 else (full or [first])[0]
    if isinstance(first, Packets):
        return Packets(tuple(x for p in parts if isinstance(p, Packets) for x in p.packets))
    if isinstance(first, Tables):
        return Tables.joined([p for p in parts if isinstance(p, Tables)])
    rows = [p.row(k) for p in parts if isinstance(p, SparseRows) for k in range(len(p))]
    return _sparse(rows, first.size)


def width(messages: Messages) -> int:
    """Numbers in a whole row, or in a row of a table (0 for packets)."""
    if isinstance(messages, torch.Tensor):
        return messages.shape[1]
    if isinstance(messages, Tables):
        return messages.width
    return messages.size if isinstance(messages, SparseRows) else 0


def _sparse(parts: Sequence[tuple[np.ndarray, Tensor]], size: int) -> SparseRows:
    indptr = np.concatenate([[0], np.cumsum([len(p) for p, _ in parts])]).astype(np.int64)
    if not parts:
        return SparseRows(indptr, np.zeros(0, np.int64), torch.zeros(0), size)
    positions = np.concatenate([p for p, _ in parts])
    return SparseRows(indptr, positions, torch.cat([v for _, v in parts]), size)


def whole_rows(messages: Messages) -> Tensor:
    """The messages, if they are whole rows.

    Raises:
        TypeError: they are not.
    """
    if not isinstance(messages, torch.Tensor):
        raise TypeError(f"this codec is for whole rows, not for {type(messages).__name__}")
    return messages
