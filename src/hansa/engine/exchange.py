"""One exchange: every node sends a row to those who hear it, and gets theirs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from hansa.codec import Codec, Dense
from hansa.engine.clock import Clock
from hansa.engine.mixing import mix_rows_
from hansa.engine.wire import HEADER_BYTES
from hansa.topology import Graph, MixingMatrix

if TYPE_CHECKING:
    from hansa.engine.block import Block


@dataclass(frozen=True)
class Send:
    """What the nodes of a block send: one message each, the same to all who hear them.

    Attributes:
        rows: [n, K], row k is the message of the block's k-th node.
        graph: who hears whom, over all nodes of the run.
        codec: how a row becomes bytes.
        kind: a short name that receivers check, at most 16 ASCII characters.
    """

    rows: Tensor
    graph: Graph
    codec: Codec = field(default_factory=Dense)
    kind: str = "model"

    def __post_init__(self) -> None:
        if not (self.kind.isascii() and self.kind.isprintable() and len(self.kind) <= 16):
            raise ValueError(f"the kind {self.kind!r} is not at most 16 ASCII characters")


@dataclass(frozen=True)
class Inbox:
    """What the nodes of a block received in one exchange.

    The messages of the block's k-th node are those at ``indptr[k]:indptr[k+1]``, by ascending
    sender. Rows are not copied to each receiver: message e is row ``slots[e]`` of the table
    made of ``sent`` [n, K] followed by ``received`` [m, K].

    Attributes:
        ids: int64 [n], the receivers.
        indptr: int64 [n+1].
        senders: int64 [messages].
        slots: int64 [messages].
        sent: what the block's own nodes sent, as it left them.
        received: rows that came from elsewhere or that the codec changed on the way.
    """

    ids: np.ndarray
    indptr: np.ndarray
    senders: np.ndarray
    slots: np.ndarray
    sent: Tensor
    received: Tensor

    def __len__(self) -> int:
        return len(self.senders)

    def messages(self, k: int) -> tuple[np.ndarray, Tensor]:
        """(senders, rows [messages, K]) that the block's k-th node got."""
        span = slice(self.indptr[k], self.indptr[k + 1])
        slots = self.slots[span]
        n = len(self.sent)
        rows = [self.sent[s] if s < n else self.received[s - n] for s in slots]
        stacked = torch.stack(rows) if rows else self.sent[:0]
        return self.senders[span], stacked

    def mix_(self, rows: Tensor, weights: MixingMatrix) -> None:
        """x_i <- w_ii x_i + sum_j w_ij m_j in place, for x = ``rows`` [n, K] and messages m.

        The terms are added in the order of their sender's id, i's own at its place.

        Raises:
            ValueError: the weights are not those of the graph that was sent over.
        """
        indptr, columns, values = weights.rows(self.ids)
        receivers = np.repeat(self.ids, np.diff(indptr))
        own = columns == receivers
        if not np.array_equal(columns[~own], self.senders):
            raise ValueError("the mixing weights are not those of the graph of this exchange")
        n = len(self.sent)
        alias = rows.data_ptr() == self.sent.data_ptr() and rows.shape == self.sent.shape
        table, slots = self.received, self.slots
        if not alias:
            # The messages are not the numbers that are mixed, so all of them are foreign rows.
            table, slots = torch.cat([self.sent, self.received]), slots + n
        index = np.empty(len(columns), dtype=np.int64)
        index[~own] = slots
        index[own] = np.repeat(np.arange(n), np.diff(indptr))[own]
        mix_rows_(rows, table, indptr, index, values)


class Exchange(Protocol):
    """Moves the messages of one exchange of one block."""

    def __call__(self, block: Block, send: Send, round: int, phase: int) -> Inbox:
        """Send, wait for all that the block's nodes should hear, count, and hand it over."""


class LocalExchange:
    """All nodes are in this block: nothing is moved, everything is counted."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __call__(self, block: Block, send: Send, round: int, phase: int) -> Inbox:
        graph, n = send.graph, len(block)
        sizes = send.codec.size(send.rows) + HEADER_BYTES
        fanout = graph.out_degrees
        arrivals = self.clock.departures(block, sizes, fanout)
        count_sent(block, sizes, fanout)
        senders = graph.indices
        heard = np.zeros(n, dtype=np.int64)
        np.add.at(heard, graph.receivers, sizes[senders])
        count_received(block, heard, graph.in_degrees)
        self.clock.arrive(block, graph.indptr, arrivals[senders])
        through = send.codec.through(send.rows)
        lossless = through is send.rows
        return Inbox(
            ids=block.ids,
            indptr=graph.indptr,
            senders=senders,
            slots=senders if lossless else senders + n,
            sent=send.rows,
            received=send.rows[:0] if lossless else through,
        )


def count_sent(block: Block, sizes: np.ndarray, fanout: np.ndarray) -> None:
    """Count messages of ``sizes`` [n] bytes, header included, each sent to ``fanout`` [n] nodes."""
    block.state["messages_sent"] += torch.from_numpy(fanout)
    block.state["bytes_sent"] += torch.from_numpy(sizes * fanout)
    sending = np.where(fanout > 0, sizes, np.nan)
    before = block.report.get("message_bytes")
    block.report["message_bytes"] = sending if before is None else np.fmax(before, sending)


def count_received(block: Block, heard: np.ndarray, messages: np.ndarray) -> None:
    """Count ``heard`` [n] bytes in ``messages`` [n] messages."""
    block.state["messages_received"] += torch.from_numpy(messages)
    block.state["bytes_received"] += torch.from_numpy(heard)
