"""The forms of what nodes send: whole rows, some numbers of a row, tables, or raw bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from hansa.base.errors import WireError
from hansa.base.lazy import torch
from hansa.codec.table_messages import Tables

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class SparseRows:
    """Some of the numbers of n rows of ``size`` numbers each.

    Attributes:
        indptr: int64 [n+1]; the k-th row's part is ``indptr[k]:indptr[k+1]`` of the positions.
        positions: int64, ascending within a row: position p is the numbers from p ``group`` on.
        values: float32 [positions x group], on the CPU: positions are found and sent there.
        size: K, numbers in a whole row.
        seeds: uint64 [n] where the positions follow from a seed and a share, else None.
        share: the share of a row that seeded positions were drawn with.
        group: how many adjacent numbers go together, such as an embedding's: K is a multiple.
    """

    indptr: np.ndarray
    positions: np.ndarray
    values: Tensor
    size: int
    seeds: np.ndarray | None = None
    share: float = 1.0
    group: int = 1

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def counts(self) -> np.ndarray:
        """int64 [n]: how many numbers of each row there are."""
        return np.diff(self.indptr) * self.group

    @property
    def places(self) -> int:
        """How many positions a whole row has."""
        return self.size // self.group

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
        """(indptr, positions, group, values), as compiled loops take them."""
        return self.indptr, self.positions, self.group, self.values.detach().numpy()

    def row(self, k: int) -> tuple[np.ndarray, Tensor]:
        """(positions, values) of one row."""
        first, last = int(self.indptr[k]), int(self.indptr[k + 1])
        return self.positions[first:last], self.values[first * self.group : last * self.group]

    def single(self) -> SparseRows:
        """The same numbers with a position each; the values are not copied."""
        if self.group == 1:
            return self
        each = (self.positions[:, None] * self.group + np.arange(self.group)).reshape(-1)
        return SparseRows(self.indptr * self.group, each, self.values, self.size)

    def with_values(self, values: Tensor) -> SparseRows:
        """The same positions with other values."""
        return replace(self, values=values)

    @classmethod
    def of(cls, rows: Tensor, positions: Sequence[np.ndarray], group: int = 1) -> SparseRows:
        """The numbers of ``rows`` [n, K] at these positions, one ascending array a row.

        Args:
            rows: on any device.
            group: how many adjacent numbers a position stands for.

        Raises:
            ValueError: rows are not of whole groups.
        """
        size = rows.shape[1]
        if group < 1 or size % group:
            raise ValueError(f"rows of {size} numbers are not of groups of {group}")
        counts = [len(p) for p in positions]
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        flat = np.concatenate(positions) if len(positions) else np.zeros(0)
        flat = flat.astype(np.int64)
        owners = np.repeat(np.arange(len(counts)), counts)
        grouped = rows.reshape(len(rows), size // group, group)
        values = grouped[torch.from_numpy(owners), torch.from_numpy(flat)]
        return cls(indptr, flat, values.reshape(-1).cpu(), size, group=group)


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
    chosen = _sparse([messages.row(int(k)) for k in which], messages)
    if messages.seeds is None:
        return chosen
    return replace(chosen, seeds=messages.seeds[which], share=messages.share)


def concatenate(parts: Sequence[Messages]) -> Messages:
    """Messages of one form, one after the other; at least one part. Seeds are not kept.

    The only one of several parts that is not empty is not copied.

    Raises:
        WireError: tables of other columns, or parts of rows in other groups, than the first's.
    """
    first = parts[0]
    if isinstance(first, torch.Tensor):
        full = [p for p in parts if isinstance(p, torch.Tensor) and len(p)]
        return torch.cat(full) if len(full) > 1 else (full or [first])[0]
    if isinstance(first, Packets):
        return Packets(tuple(x for p in parts if isinstance(p, Packets) for x in p.packets))
    if isinstance(first, Tables):
        return Tables.joined([p for p in parts if isinstance(p, Tables)])
    sparse = [p for p in parts if isinstance(p, SparseRows)]
    if any(p.group != first.group for p in sparse):
        raise WireError(f"parts of rows that are not in groups of {first.group}")
    return _sparse([p.row(k) for p in sparse for k in range(len(p))], first)


def width(messages: Messages) -> int:
    """Numbers in a whole row, or in a row of a table (0 for packets)."""
    if isinstance(messages, torch.Tensor):
        return messages.shape[1]
    if isinstance(messages, Tables):
        return messages.width
    return messages.size if isinstance(messages, SparseRows) else 0


def _sparse(parts: Sequence[tuple[np.ndarray, Tensor]], like: SparseRows) -> SparseRows:
    indptr = np.concatenate([[0], np.cumsum([len(p) for p, _ in parts])]).astype(np.int64)
    positions = np.concatenate([p for p, _ in parts]) if parts else np.zeros(0, np.int64)
    values = torch.cat([v for _, v in parts]) if parts else torch.zeros(0)
    return SparseRows(indptr, positions, values, like.size, group=like.group)


def whole_rows(messages: Messages) -> Tensor:
    """The messages, if they are whole rows.

    Raises:
        TypeError: they are not.
    """
    if not isinstance(messages, torch.Tensor):
        raise TypeError(f"this codec is for whole rows, not for {type(messages).__name__}")
    return messages
