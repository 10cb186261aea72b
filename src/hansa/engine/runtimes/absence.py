"""Peers that are away in a round: whatever an algorithm does, they come back as they left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.engine.block import Block

if TYPE_CHECKING:
    from torch import Tensor


class Away:
    """Models and state of a block's absent peers, kept at the start of a round.

    Their modelled time stands still too; on return a node waits, as any does, for the latest
    message that it needs. Clients of a server have no model between rounds; who is away is not
    invited, and what it sent before still counts.
    """

    def __init__(self, block: Block, round: int) -> None:
        self.block = block
        gone = ~block.present(round) & (block.network.servers == 0)
        self.at = torch.from_numpy(np.flatnonzero(gone))
        self._rows: Tensor | None = None
        self._state: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
        if len(self.at):
            self._rows = block.rows[self.at.to(block.rows.device)]
            self._state = [
                (named, {name: value[self.at.to(value.device)] for name, value in named.items()})
                for named in (block.state, block.kept)
            ]

    def put_back(self) -> None:
        """Make the absent nodes what they were."""
        if self._rows is None:
            return
        self.block.rows[self.at.to(self.block.rows.device)] = self._rows
        for named, before in self._state:
            for name, values in before.items():
                now = named[name]
                now[self.at.to(now.device)] = values
