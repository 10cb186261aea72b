"""One exchange: every node sends to those who hear it, and gets what they sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hansa.base.lazy import torch
from hansa.codec import Codec, Dense
from hansa.codec.messages import Messages, SparseRows, concatenate, select, whole_rows, width
from hansa.engine.exchange.mixing import mix_rows_
from hansa.engine.exchange.overlay import add_sparse_, overlay_sparse_
from hansa.engine.exchange.wire import HEADER_BYTES
from hansa.engine.time.clock import Clock
from hansa.topology import Graph, MixingMatrix

if TYPE_CHECKING:
    from torch import Tensor

    from hansa.engine.block import Block


@dataclass(frozen=True)
class Send:
    """What the nodes of a block send.

    Attributes:
        rows: the messages: whole rows [n, K], parts of rows, or packets of bytes. The k-th is
            that of the block's k-th node, the same to all who hear it; or, with ``each``, there
            is one for each receiver, in the order of sender and then receiver; or, with
            ``senders``, one for each of these only.
        graph: who hears whom, over all nodes of the run.
        codec: how a message becomes bytes.
        kind: a short name that receivers check, at most 16 ASCII characters.
        each: every receiver gets a message of its own.
        senders: int64, positions in the block of those that have a message, ascending; None: all.
        beside: how many of a row's last numbers are no model's and go with it.
    """

    rows: Messages
    graph: Graph
    codec: Codec = field(default_factory=Dense)
    kind: str = "model"
    each: bool = False
    senders: np.ndarray | None = None
    beside: int = 0

    def __post_init__(self) -> None:
        if not (self.kind.isascii() and self.kind.isprintable() and len(self.kind) <= 16):
            raise ValueError(f"the kind {self.kind!r} is not at most 16 ASCII characters")


@dataclass(frozen=True)
class Share:
    """What every block of a run must know, though only one of them can: a server's decisions.

    Each block gives what it has (often empty arrays) and is resumed with a dict of the same
    names: the arrays of all blocks, end to end. It is how workers keep in step,
    not a message between parties, so it is not counted: clients learn a server's decision from
    the messages that they get.
    """

    values: dict[str, np.ndarray]


@dataclass(frozen=True)
class Routes:
    """Which message of a block goes to whom.

    Attributes:
        senders: int64 [pairs], positions in the block, ascending.
        receivers: int64 [pairs], node ids, ascending for each sender.
        message: int64 [pairs], index of the message that is sent.
    """

    senders: np.ndarray
    receivers: np.ndarray
    message: np.ndarray

    @classmethod
    def of(cls, block: Block, send: Send) -> Routes:
        """The routes of a send, checked against its number of messages.

        Raises:
            ValueError: there are too many or too few messages.
        """
        indptr, receivers = send.graph.transpose().rows(block.ids)
        senders = np.repeat(np.arange(len(block)), np.diff(indptr))
        if send.each:
            due, message = len(senders), np.arange(len(senders))
        elif send.senders is None:
            due, message = len(block), senders
        else:
            place = np.full(len(block), -1)
            place[send.senders] = np.arange(len(send.senders))
            due, message = len(send.senders), place[senders]
        if len(send.rows) != due or (message < 0).any():
            raise ValueError(f"{len(send.rows)} messages where {due} are due")
        return cls(senders, receivers, message)


@dataclass(frozen=True)
class Inbox:
    """What the nodes of a block received in one exchange.

    The messages of the block's k-th node are those at ``indptr[k]:indptr[k+1]``, by ascending
    sender. They are not copied to each receiver: message e is the one at ``slots[e]`` of the
    table made of ``sent`` followed by ``received``.

    Attributes:
        ids: int64 [n], the receivers.
        indptr: int64 [n+1].
        senders: int64 [messages].
        slots: int64 [messages].
        sent: what the block's own nodes sent, as it left them.
        received: what came from elsewhere or was changed by the codec on the way.
        arrivals: float64 [messages], modelled time at which each was sent and on its way over.
    """

    ids: np.ndarray
    indptr: np.ndarray
    senders: np.ndarray
    slots: np.ndarray
    sent: Messages
    received: Messages
    arrivals: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.senders)

    def table(self, who: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """The one message, a whole row, that each node at ``who`` [k] got.

        Returns:
            (the different messages [m, K], which of them each node got [k]).

        Raises:
            ValueError: some of these nodes got none or several.
        """
        if (np.diff(self.indptr)[who] != 1).any():
            raise ValueError("not every one of these nodes got exactly one message")
        slots, which = np.unique(self.slots[self.indptr[:-1][who]], return_inverse=True)
        sent, received = whole_rows(self.sent), whole_rows(self.received)
        both = [sent[int(s)] if s < len(sent) else received[int(s) - len(sent)] for s in slots]
        return torch.stack(both) if both else sent[:0], which

    def messages(self, k: int, shared: bool = False) -> tuple[np.ndarray, Messages]:
        """(senders, their messages) that the block's k-th node got, by ascending sender.

        Args:
            shared: they are only read: they may be the very rows that somebody has.
        """
        span = slice(self.indptr[k], self.indptr[k + 1])
        slots, n = self.slots[span], len(self.sent)
        if (slots < n).all():
            return self.senders[span], select(self.sent, slots, shared)
        if (slots >= n).all():
            return self.senders[span], select(self.received, slots - n, shared)
        parts = [
            select(self.sent, slots[e : e + 1])
            if slots[e] < n
            else select(self.received, slots[e : e + 1] - n)
            for e in range(len(slots))
        ]
        return self.senders[span], concatenate(parts)

    def mix_(self, rows: Tensor, weights: MixingMatrix) -> None:
        """x_i <- w_ii x_i + sum_j w_ij m_j in place, for x = ``rows`` [n, K] and whole rows m.

        The terms are added in the order of their sender's id, i's own at its place.

        Raises:
            ValueError: the weights are not those of the graph that was sent over.
        """
        indptr, own, values = self.weighted(weights)
        if not isinstance(self.sent, torch.Tensor) or not isinstance(self.received, torch.Tensor):
            raise TypeError("only whole rows can be mixed; see overlay_ for parts of rows")
        n = len(rows)
        alias = rows.data_ptr() == self.sent.data_ptr() and rows.shape == self.sent.shape
        table, slots = self.received, self.slots
        if not alias:
            # The messages are not the numbers that are mixed, so all of them are foreign rows.
            table, slots = torch.cat([self.sent, self.received]), slots + n
        index = np.empty(len(own), dtype=np.int64)
        index[~own] = slots
        index[own] = np.repeat(np.arange(n), np.diff(indptr))[own]
        mix_rows_(rows, table, indptr, index, values)

    def overlay_(self, rows: Tensor, weights: MixingMatrix) -> None:
        """x_i <- x_i + sum_j w_ij (m_j - x_i) where j's message has a number, in place.

        As if each neighbour's missing numbers were the receiver's own. For a node all of whose
        messages are whole rows this is :meth:`mix_`, to the bit, whatever the others of its block
        hear.

        Raises:
            ValueError: the weights are not those of the graph that was sent over.
        """
        indptr, own, values = self.weighted(weights)
        table, slots = self._parts()
        if not len(slots):
            return
        gaps = np.concatenate([[0], np.cumsum(table.counts[slots] != table.size)])
        whole = np.flatnonzero((np.diff(gaps[self.indptr]) == 0) & (np.diff(self.indptr) > 0))
        mixed = self._mixed(rows, whole, table, slots, indptr, own, values)
        if len(whole) < len(rows):
            starts, ends = self.indptr[:-1].copy(), self.indptr[1:].copy()
            ends[whole] = starts[whole]  # these are mixed
            overlay_sparse_(rows, starts, ends, slots, values[~own], table)
        if len(whole):
            rows[torch.from_numpy(whole)] = mixed

    def add_(self, target: Tensor, weights: MixingMatrix) -> None:
        """target_i <- target_i + sum_j w_ij m_j over the neighbours' messages, in place.

        Raises:
            ValueError: the weights are not those of the graph that was sent over.
        """
        _, own, values = self.weighted(weights)
        if isinstance(self.sent, SparseRows):
            table, slots = self._parts()
            add_sparse_(target, self.indptr, slots, values[~own], table)
            return
        for k in range(len(target)):
            span = slice(self.indptr[k], self.indptr[k + 1])
            rows = self.messages(k)[1]
            assert isinstance(rows, torch.Tensor)
            for weight, row in zip(values[~own][span], rows, strict=True):
                target[k].add_(row, alpha=float(weight))

    def weighted(self, weights: MixingMatrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(indptr, which terms are a node's own, values) of the receivers' sums.

        Raises:
            ValueError: the weights are not those of the graph that was sent over.
        """
        indptr, columns, values = weights.rows(self.ids)
        own = columns == np.repeat(self.ids, np.diff(indptr))
        if not np.array_equal(columns[~own], self.senders):
            raise ValueError("the mixing weights are not those of the graph of this exchange")
        return indptr, own, values

    def _parts(self) -> tuple[SparseRows, np.ndarray]:
        """All messages in one table, and where each received one is in it."""
        if not isinstance(self.sent, SparseRows) or not isinstance(self.received, SparseRows):
            raise TypeError("these messages are not parts of rows")
        if not len(self.received):
            return self.sent, self.slots
        if len(self.slots) and (self.slots >= len(self.sent)).all():
            return self.received, self.slots - len(self.sent)
        table = concatenate([self.sent, self.received])
        assert isinstance(table, SparseRows)
        return table, self.slots

    def _mixed(
        self,
        rows: Tensor,
        who: np.ndarray,
        table: SparseRows,
        slots: np.ndarray,
        indptr: np.ndarray,
        own: np.ndarray,
        values: np.ndarray,
    ) -> Tensor:
        """The mixed rows of the receivers ``who``, who got whole rows only."""
        n, mixed = len(who), rows[torch.from_numpy(who)]
        if not n:
            return mixed
        receivers = np.repeat(np.arange(len(rows)), np.diff(indptr))
        terms = np.isin(receivers, who)
        needed, place = np.unique(slots[terms[~own]], return_inverse=True)
        whole = torch.stack([table.row(int(k))[1] for k in needed]).to(rows.device)
        index = np.empty(np.count_nonzero(terms), dtype=np.int64)
        index[~own[terms]] = n + place
        index[own[terms]] = np.arange(n)
        starts = np.concatenate([[0], np.cumsum(np.diff(indptr)[who])])
        mix_rows_(mixed, whole, starts, index, values[terms])
        return mixed


class Exchange(Protocol):
    """Moves the messages of one exchange of one block."""

    def __call__(self, block: Block, send: Send, round: int, phase: int) -> Inbox:
        """Send, wait for all that the block's nodes should hear, count, and hand it over."""

    def share(self, block: Block, share: Share, round: int, phase: int) -> dict[str, np.ndarray]:
        """The arrays of all blocks, end to end."""


class LocalExchange:
    """All nodes are in this block: nothing is moved, everything is counted."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __call__(self, block: Block, send: Send, round: int, phase: int) -> Inbox:
        graph, n = send.graph, len(send.rows)
        routes = Routes.of(block, send)
        sizes = sizes_of(send)
        count_sent(block, routes, sizes)
        due = self.clock.transfer(block, routes.senders, routes.receivers, sizes[routes.message])
        # Routes go by sender and then receiver, an inbox by receiver and then sender.
        order = np.lexsort((routes.senders, routes.receivers))
        senders, slots = routes.senders[order], routes.message[order]
        heard = count_received(block, graph.indptr, sizes[slots])
        self.clock.receive(block, heard, graph.indptr, due[order])
        through = what_arrives(send)
        lossless = through is send.rows
        return Inbox(
            ids=block.ids,
            indptr=graph.indptr,
            senders=senders,
            slots=slots if lossless else slots + n,
            sent=send.rows,
            received=nothing(send.rows) if lossless else through,
            arrivals=due[order],
        )

    def share(self, block: Block, share: Share, round: int, phase: int) -> dict[str, np.ndarray]:
        return share.values


def sizes_of(send: Send) -> np.ndarray:
    """Bytes of each message with its header, int64 [m].

    Raises:
        ValueError: the codec does not say one number for each.
    """
    sizes = np.asarray(send.codec.size(send.rows))
    if sizes.shape != (len(send.rows),) or sizes.dtype.kind not in "iu":
        said = f"{list(sizes.shape)} of {sizes.dtype}"
        raise ValueError(f"size gives {said}, not whole numbers [{len(send.rows)}]")
    return sizes + HEADER_BYTES


def what_arrives(send: Send) -> Messages:
    """The messages as the codec leaves them.

    Raises:
        ValueError: they are not as many, or not as wide, as those that were sent.
    """
    received = send.codec.through(send.rows)
    wanted = (len(send.rows), width(send.rows))
    if (len(received), width(received)) != wanted:
        form = f"{type(received).__name__} {list(getattr(received, 'shape', []))}"
        raise ValueError(f"through gives {form} for messages [{wanted[0]}, {wanted[1]}]")
    return received


def nothing(messages: Messages) -> Messages:
    """No messages, of the same form."""
    return select(messages, np.zeros(0, dtype=np.int64))


def count_sent(block: Block, routes: Routes, sizes: np.ndarray) -> np.ndarray:
    """Count what is sent; returns each node's bytes [n].

    Args:
        sizes: bytes of each message, header included, int64 [messages].
    """
    n = len(block)
    load = np.zeros(n, dtype=np.int64)
    np.add.at(load, routes.senders, sizes[routes.message])
    fanout = np.bincount(routes.senders, minlength=n)
    block.state["messages_sent"] += torch.from_numpy(fanout)
    block.state["bytes_sent"] += torch.from_numpy(load)
    mean = np.where(fanout > 0, load / np.maximum(fanout, 1), np.nan)
    before = block.report.get("message_bytes")
    block.report["message_bytes"] = mean if before is None else np.fmax(before, mean)
    return load


def count_received(block: Block, indptr: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Count messages of ``sizes`` [messages] bytes, the k-th node's at indptr[k]:indptr[k+1].

    Returns each node's bytes [n].
    """
    total = np.concatenate([[0], np.cumsum(sizes)])
    heard = np.diff(total[indptr])
    block.state["messages_received"] += torch.from_numpy(np.diff(indptr))
    block.state["bytes_received"] += torch.from_numpy(heard)
    return heard
