"""Attackers: those of a block's nodes whose messages are forged on the way out.

They do all that their algorithm says; where it yields a :class:`Send`, an :class:`Attack` says what
leaves instead. So every algorithm can be attacked, among peers and through a server, in every
runtime alike. What goes with a model's numbers in a message (losses, counters, controls) is as the
algorithm made it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.component import import_path
from hansa.base.errors import OwnCodeError, RunError
from hansa.base.lazy import torch
from hansa.codec import Packets, SparseRows, Tables
from hansa.codec.messages import Messages, width
from hansa.engine.exchange.exchange import Send, Share
from hansa.ensemble.attacks import Attack, Scene

if TYPE_CHECKING:
    from torch import Tensor

    from hansa.engine.block import Block

TOGETHER = "attackers.together"
"""The fact of a block that all its clients' updates must leave in one exchange."""


@dataclass(frozen=True)
class Attackers:
    """Who attacks in a run, and how.

    Attributes:
        nodes: int64, their ids, ascending.
    """

    attack: Attack
    nodes: np.ndarray

    def among(self, ids: list[int]) -> Attackers | None:
        """Those who are left where the nodes ``ids`` are numbered anew; None: nobody is."""
        left = np.flatnonzero(np.isin(ids, self.nodes))
        return replace(self, nodes=left) if len(left) else None

    def event(self, block: Block) -> dict[str, Any]:
        """For the record: who of a block attacks."""
        here = self.nodes[np.isin(self.nodes, block.ids)]
        return {"kind": "attack", "name": self.attack.name, "nodes": here.tolist()}

    def share(self, block: Block, send: Send) -> Share | None:
        """What attackers tell each other before they send; None where they are each alone."""
        if not self.attack.colluding:
            return None
        senders, mine = self._messages(block, send)
        rows = _numbers(send, mine).cpu().numpy()
        return Share({"attackers": senders[mine], "rows": rows})

    def forged(
        self, block: Block, send: Send, t: int, phase: int, told: dict[str, np.ndarray] | None
    ) -> Send:
        """A send in which the attackers' messages are forged.

        Raises:
            RunError: the messages are no rows of numbers.
            OwnCodeError: a user's own attack does not give a row for each.
        """
        senders, mine = self._messages(block, send)
        if not len(mine):
            return send
        honest = None
        if told is not None:
            order = np.argsort(told["attackers"], kind="stable")
            honest = torch.from_numpy(told["rows"][order])
        rows = _numbers(send, mine)
        if honest is not None:
            honest = honest.to(rows.device)
        scene = Scene(
            senders[mine], t, phase, send.kind, block.streams, honest, block.clients, self.nodes
        )
        return replace(send, rows=_with(send.rows, mine, self.forge(rows, scene)))

    def forge(self, rows: Tensor, scene: Scene) -> Tensor:
        """What the attack makes of rows [k, K].

        Raises:
            OwnCodeError: a user's own attack does not give a row for each.
        """
        forged = self.attack.forge(rows, scene)
        if not isinstance(forged, torch.Tensor) or forged.shape != rows.shape:
            raise OwnCodeError(
                "attack",
                import_path(type(self.attack)),
                f"forge gives {list(getattr(forged, 'shape', []))}",
                f"rows {list(rows.shape)}, as many as it was given",
            )
        return forged

    def _messages(self, block: Block, send: Send) -> tuple[np.ndarray, np.ndarray]:
        """(the sender of each message, the attackers' messages by position)."""
        senders = send.speakers(block)
        if send.beside >= width(send.rows) > 0:
            return senders, np.zeros(0, dtype=np.int64)
        return senders, np.flatnonzero(np.isin(senders, self.nodes))


def _numbers(send: Send, which: np.ndarray) -> Tensor:
    """The model's numbers in some messages, a copy [k, K]; 0 where a part of a row has none."""
    rows = send.rows
    if isinstance(rows, Packets):
        raise RunError(f"messages of kind {send.kind} are bytes, which no attack can forge")
    if isinstance(rows, Tables):
        raise RunError(f"messages of kind {send.kind} are tables, which no attack can forge")
    if isinstance(rows, torch.Tensor):
        return rows[torch.from_numpy(which).to(rows.device), : rows.shape[1] - send.beside]
    numbers, single = torch.zeros(len(which), rows.size), rows.single()
    for whole, k in zip(numbers, which, strict=True):
        positions, values = single.row(int(k))
        whole[torch.from_numpy(positions)] = values
    return numbers


def _with(rows: Messages, which: np.ndarray, found: Tensor) -> Messages:
    """Messages of which some have other numbers; the others are as they were."""
    if isinstance(rows, torch.Tensor):
        forged = rows.clone()
        forged[torch.from_numpy(which).to(rows.device), : found.shape[1]] = found.to(rows)
        return forged
    assert isinstance(rows, SparseRows)  # _numbers has looked
    values, single = rows.values.clone(), rows.single()
    for whole, k in zip(found, which, strict=True):
        span = slice(int(single.indptr[k]), int(single.indptr[k + 1]))
        values[span] = whole.to(values)[torch.from_numpy(single.positions[span])]
    return rows.with_values(values)
