"""Rows of some of a block's nodes: memory goes to those that have one, not to all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


class Shelf:
    """Rows [size] filed under node ids. A row that was never put is all zeros."""

    def __init__(self) -> None:
        self._rows: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, node: int) -> bool:
        return node in self._rows

    def take(self, ids: np.ndarray, size: int) -> Tensor:
        """Copies of the rows of these nodes, [k, size]."""
        rows = torch.zeros(len(ids), size)
        for k, node in enumerate(ids.tolist()):
            if node in self._rows:
                rows[k] = self._rows[node]
        return rows

    def row(self, node: int) -> Tensor:
        """A copy of the row [size] of a node that has one."""
        return self._rows[node].clone()

    def put(self, ids: np.ndarray, rows: Tensor) -> None:
        """File a copy of each of ``rows`` [k, size] under its node."""
        for node, row in zip(ids.tolist(), rows, strict=True):
            if node in self._rows:
                self._rows[node].copy_(row)
            else:
                self._rows[node] = row.detach().cpu().clone()

    def drop(self, ids: np.ndarray) -> None:
        """Free the rows of these nodes, where there are any."""
        for node in ids.tolist():
            self._rows.pop(node, None)

    def all(self) -> tuple[np.ndarray, Tensor]:
        """(ids ascending, their rows)."""
        ids = np.array(sorted(self._rows), dtype=np.int64)
        rows = [self._rows[i] for i in ids.tolist()]
        return ids, torch.stack(rows) if rows else torch.zeros(0, 0)
