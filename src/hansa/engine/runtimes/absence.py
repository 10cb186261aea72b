"""Nodes that are away: they come back as they left, or as they were some rounds before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import RunError
from hansa.base.lazy import torch
from hansa.engine.block import Block
from hansa.engine.exchange.recorded import Rewind
from hansa.engine.past import become, counted, was
from hansa.engine.until import OF_RUN

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
                (named, {name: self._here(named[name]) for name in named if _of_node(name)})
                for named in (block.state, block.kept)
            ]

    def _here(self, values: Tensor) -> Tensor:
        return values[self.at.to(values.device)]

    def put_back(self) -> None:
        """Make the absent nodes what they were."""
        if self._rows is None:
            return
        self.block.rows[self.at.to(self.block.rows.device)] = self._rows
        for named, before in self._state:
            for name, values in before.items():
                now = named[name]
                now[self.at.to(now.device)] = values


class Returns:
    """Nodes that come back as they were after an earlier round, since they lost what they had.

    What they were is kept with the block, and so in its checkpoints, from that round until they
    come back.

    Args:
        rewinds: who comes back when, and as what.
        ends: who never comes back, and what the end of the run shows of them.
    """

    def __init__(self, rewinds: Sequence[Rewind] = (), ends: Sequence[Rewind] = ()) -> None:
        self.rewinds, self.ends = tuple(rewinds), tuple(ends)

    def keep(self, block: Block, done: int) -> None:
        """Keep what nodes are after ``done`` rounds, if they will come back so."""
        for one in (*self.rewinds, *self.ends):
            if one.back == done < one.at:
                for node in _of(block, one):
                    block.past[done, node] = was(block, node)

    def begin(self, block: Block, t: int) -> None:
        """Before round t: those who come back in it become what they were.

        Raises:
            RunError: the checkpoint that the run goes on from does not say what they were.
        """
        self._back(block, [one for one in self.rewinds if one.at == t])
        waiting = [*(one for one in self.rewinds if one.at > t), *self.ends]
        needed = {(one.back, node) for one in waiting for node in one.nodes}
        for key in block.past.keys() - needed:
            del block.past[key]

    def end(self, block: Block, done: int) -> None:
        """After the last round, ``done``: those who stayed away are what they were at last."""
        self._back(block, [one for one in self.ends if one.at == done])

    def _back(self, block: Block, rewinds: Sequence[Rewind]) -> None:
        for one in rewinds:
            if one.back == one.at:
                continue
            for node in _of(block, one):
                if (one.back, node) not in block.past:
                    raise RunError(
                        f"what the node was after round {one.back}, as which it comes back, is not "
                        "in the checkpoint that the run goes on from; begin the run anew",
                        node=node,
                        round=one.at + 1,
                        phase="training",
                        repeats=True,
                    )
                spared = () if one.counters else counted(block)
                become(block, node, block.past[one.back, node], spared)


def _of_node(name: str) -> bool:
    """Whether state is a node's own, and not what all know of the run."""
    return not name.startswith(OF_RUN)


def _of(block: Block, rewind: Rewind) -> list[int]:
    """The nodes of the block that come back."""
    return block.ids[block.positions(np.array(rewind.nodes, dtype=np.int64))].tolist()
