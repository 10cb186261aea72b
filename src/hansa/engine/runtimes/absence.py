"""Nodes that are away in a round: whatever an algorithm does, they come back as they left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.engine.block import Block

if TYPE_CHECKING:
    from torch import Tensor


class Away:
    """Models and state of a block's absent nodes, kept at the start of a round.

    Their modelled time stands still too; on return a node waits, as any does, for the latest
    message that it needs.
    """

    def __init__(self, block: Block, round: int) -> None:
        self.block = block
        self.at = torch.from_numpy(np.flatnonzero(~block.present(round)))
        self._rows: Tensor | None = None
        self._state: dict[str, Tensor] = {}
        if len(self.at):
            self._rows = block.rows[self.at.to(block.rows.device)]
            self._state = {k: v[self.at.to(v.device)] for k, v in block.state.items()}

    def put_back(self) -> None:
        """Make the absent nodes what they were."""
        if self._rows is None:
            return
        self.block.rows[self.at.to(self.block.rows.device)] = self._rows
        for name, kept in self._state.items():
            now = self.block.state[name]
            now[self.at.to(now.device)] = kept
