"""One exchange: every node sends to those who hear it, and gets what they sent."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hansa.base import many
from hansa.base.errors import WireError
from hansa.base.few import Few
from hansa.base.lazy import torch
from hansa.base.many import add_, tally
from hansa.codec import Codec, Dense
from hansa.codec.messages import Messages, concatenate, select, width
from hansa.engine.exchange.asked import Asked, Exchange, check_kind, check_missing
from hansa.engine.exchange.backhaul import book_backhaul
from hansa.engine.exchange.inbox import Inbox
from hansa.engine.exchange.losses import record, refuse, resend, wait_in_vain
from hansa.engine.exchange.terms import Missing, OnMissing
from hansa.engine.exchange.wire import HEADER_BYTES, Buffer, Header, Key, When, checksum, frame
from hansa.topology.graph import row_of_each

if TYPE_CHECKING:
    from hansa.engine.block import Block
    from hansa.topology import Graph


MESSAGE_BYTES = "message_bytes"
"""In a block's report: the mean size of what each node sent, of its largest exchange."""


@dataclass(frozen=True)
class Send(Asked[Inbox]):
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
        turn: which exchange of this kind in the round it is, from 0, for exchanges that not every
            block takes part in; None: every block does, and they are counted through the round.
        on_missing: what becomes of a message that does not come.
        hears: who listens to whom as receivers know it, where that is not ``graph``, by which
            senders go: one may not know that it is sent something, or is waited for. None: it is.
    """

    rows: Messages
    graph: Graph
    codec: Codec = field(default_factory=Dense)
    kind: str = "model"
    each: bool = False
    senders: np.ndarray | None = None
    beside: int = 0
    turn: int | None = None
    on_missing: OnMissing = "self"
    hears: Graph | None = None

    def __post_init__(self) -> None:
        check_kind(self.kind, self.turn)
        check_missing(self.on_missing, OnMissing)

    def speakers(self, block: Block) -> np.ndarray:
        """The id of each message's sender, int64 [messages]."""
        if self.each:
            return block.ids[row_of_each(rows_of(self.graph.transpose(), block)[0])]
        return block.ids if self.senders is None else block.ids[self.senders]

    def perform(self, exchange: Exchange, block: Block, round: int, phase: int) -> Inbox:
        """Send, wait for all that the block's nodes should hear, count, and hand it over."""
        when, routes, sizes = self.when(round, phase), Routes.of(block, self), sizes_of(self)
        policy = exchange.policy(self.on_missing)
        count_sent(block, routes, sizes)
        weight = sizes[routes.message]
        due = exchange.due(block, routes.senders, routes.receivers, weight)
        lost = _lost(exchange, block, self, when, policy, routes, weight, due)
        through = what_arrives(self)
        home = Arrivals(routes.message, weight, due)
        if through is not self.rows:
            home = replace(home, slots=home.slots + len(self.rows))
        tables = [nothing(self.rows) if through is self.rows else through]

        # What stays goes by the same routes as what leaves: routes are by sender and then
        # receiver, an inbox is by receiver and then sender.
        (indptr, senders), missing = rows_of(self.hears or self.graph, block), Missing()
        names = block.ids[routes.senders], routes.receivers
        silent = exchange.unheard(when, self.kind, *names)
        if exchange.post is None and self.hears is None and not (lost | silent).any():
            came = home.at(np.lexsort((routes.senders, routes.receivers)))
        else:
            goes, near = ~lost, exchange.here(routes.receivers)
            _speak(exchange, block, self, routes, np.flatnonzero(goes & ~near), when, due)
            edges = senders, block.ids[row_of_each(indptr)]
            if self.hears is not None:
                near &= _among(names, edges)
            stays = np.flatnonzero(goes & near)
            order = np.lexsort((routes.senders[stays], routes.receivers[stays]))
            spoken = None if self.hears is None else _among(edges, names)
            came, got = _gathered(
                exchange, block, self, when, policy, edges, home.at(stays[order]), spoken, tables
            )
            if not got.all():
                missing = Missing(_offsets(indptr, ~got), senders[~got])
                indptr, senders, came = _offsets(indptr, got), senders[got], came.at(got)

        before = many.copied(block.state["modelled_time"].numpy()) if len(missing) else None
        heard = count_received(block, indptr, came.weight)
        exchange.clock.receive(block, heard, indptr, came.due)
        if before is not None:
            wait_in_vain(exchange, block, missing, before)
        received = concatenate(tables)
        if isinstance(received, torch.Tensor) and isinstance(self.rows, torch.Tensor):
            received = received.to(self.rows.device)
        return Inbox(
            block.ids, indptr, senders, came.slots, self.rows, received, came.due,
            missing, policy, lost,
        )  # fmt: skip


@dataclass(frozen=True)
class Share(Asked["dict[str, np.ndarray]"]):
    """What all blocks know of each other, where all of them are one owner's.

    Each block gives what it has (often empty arrays) and is resumed with a dict of the same
    names: the arrays of all blocks, end to end. It is no message between parties and is not
    counted: attackers agree by it, and models reach those who measure them. What one party tells
    another is a :class:`~hansa.engine.Tell`.
    """

    values: dict[str, np.ndarray]

    def perform(
        self, exchange: Exchange, block: Block, round: int, phase: int
    ) -> dict[str, np.ndarray]:
        if exchange.post is None:
            return self.values
        return exchange.post.share(self.when(round, phase), self.values)


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
        indptr, receivers = rows_of(send.graph.transpose(), block)
        senders, unsaid = row_of_each(indptr), False
        if send.each:
            due, message = len(senders), np.arange(len(senders))
        elif send.senders is None:
            due, message = len(block), senders
        else:
            due, order = len(send.senders), np.argsort(send.senders)
            message = np.searchsorted(send.senders, senders, sorter=order)
            unsaid = (message == due).any()
            message = order[message[:0] if unsaid else message]
            unsaid = unsaid or (send.senders[message] != senders).any()
        if len(send.rows) != due or unsaid:
            raise ValueError(f"{len(send.rows)} messages where {due} are due")
        return cls(senders, receivers, message)


@dataclass(frozen=True)
class Arrivals:
    """What comes by some edges.

    Attributes:
        slots: int64 [edges], where each message is in what was sent followed by what was received.
        weight: int64 [edges], bytes with the header.
        due: float64 [edges], s of modelled time.
    """

    slots: np.ndarray
    weight: np.ndarray
    due: np.ndarray

    def at(self, which: np.ndarray) -> Arrivals:
        """Some of them, by index or by mask."""
        return Arrivals(self.slots[which], self.weight[which], self.due[which])

    def spread(self, places: np.ndarray) -> Arrivals:
        """These in order at ``places``, bool [edges]; zeros elsewhere."""
        wide = [np.zeros(len(places), dtype=x.dtype) for x in (self.slots, self.weight, self.due)]
        for target, values in zip(wide, (self.slots, self.weight, self.due), strict=True):
            target[places] = values
        return Arrivals(*wide)


def _speak(
    exchange: Exchange,
    block: Block,
    send: Send,
    routes: Routes,
    away: np.ndarray,
    when: When,
    due: np.ndarray,
) -> None:
    """Send the messages of the routes ``away``: encoded once, sent once a worker."""
    if exchange.post is None or not len(away):
        return
    needed, place = np.unique(routes.message[away], return_inverse=True)
    payloads = send.codec.encode(select(send.rows, needed))
    digests = [checksum(payload) for payload in payloads]
    bound: dict[tuple[int, int], list[Header]] = {}
    for route, k in zip(away.tolist(), place.tolist(), strict=True):
        header = frame(
            when,
            int(block.ids[routes.senders[route]]),
            int(routes.receivers[route]),
            send.kind,
            payloads[k],
            elements=width(send.rows),
            arrival=float(due[route]),
            digest=digests[k],
        )
        bound.setdefault((k, exchange.worker(header.receiver)), []).append(header)
    for (k, _), headers in bound.items():
        exchange.post.send(headers[0], payloads[k], *headers[1:])


def _lost(
    exchange: Exchange,
    block: Block,
    send: Send,
    when: When,
    policy: OnMissing,
    routes: Routes,
    weight: np.ndarray,
    due: np.ndarray,
) -> np.ndarray:
    """Which messages a fault takes for good, bool [routes].

    Args:
        weight: bytes of each, int64 [routes].
        due: when each arrives, s [routes]; those that are sent again come later, in place.

    Raises:
        RunError: the policy is to abort.
    """
    senders, receivers = block.ids[routes.senders], routes.receivers
    lost = exchange.lost(block, when, send.kind, senders, receivers)
    if not lost.any():
        return lost
    if policy == "abort":
        refuse(when, send.kind, senders[lost], receivers[lost])
    record(exchange, block, when, send.kind, policy, "lost", senders[lost], receivers[lost])
    if policy == "wait":
        resent = routes.senders[lost], receivers[lost], weight[lost]
        due[lost] = resend(exchange, block, *resent, due[lost])
        return np.zeros(len(lost), dtype=bool)
    return lost


def _gathered(
    exchange: Exchange,
    block: Block,
    send: Send,
    when: When,
    policy: OnMissing,
    edges: tuple[np.ndarray, np.ndarray],
    home: Arrivals,
    spoken: np.ndarray | None,
    tables: list[Messages],
) -> tuple[Arrivals, np.ndarray]:
    """(what comes by each edge, zeros where nothing does; where something did, bool [edges]).

    Args:
        edges: (senders, receivers) of all that is due here, node ids.
        home: what stays in the block, by its edges in order.
        spoken: by which of the edges a node of the block sends something, bool [edges]; None: by
            all of them that begin here.
        tables: messages, to which those from elsewhere are added.
    """
    senders, receivers = edges
    near = exchange.here(senders)
    comes = np.ones(len(near), dtype=bool)
    if policy != "wait":
        comes = ~exchange.lost(block, when, send.kind, senders, receivers)
    sent = near & comes if spoken is None else near & comes & spoken
    came, speaks = home.spread(sent), ~exchange.unheard(when, send.kind, senders, receivers)
    got = sent & speaks
    away = np.flatnonzero(comes & ~near & speaks)
    if exchange.post is not None:
        keys: list[Key] = list(zip(senders[away].tolist(), receivers[away].tolist(), strict=True))
        letters = exchange.post.gather(when, set(keys), whole=exchange.patient(policy))
        filed: dict[int, int] = {}
        count = len(send.rows) + sum(map(len, tables))
        for e, key in zip(away.tolist(), keys, strict=True):
            if key not in letters:
                continue
            header, payload = letters[key]
            if send.each or header.sender not in filed:
                filed[header.sender] = count
                tables.append(_decoded(send, header, payload))
                count += 1
            came.slots[e], got[e] = filed[header.sender], True
            came.weight[e], came.due[e] = header.size + HEADER_BYTES, header.arrival
    silent = comes & ~got
    names = senders[silent], receivers[silent]
    record(exchange, block, when, send.kind, policy, "silent", *names)
    return came, got


def _among(
    pairs: tuple[np.ndarray, np.ndarray], others: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Which of these (senders, receivers) are among others, bool [pairs]."""
    width = 1 + int(max(ids.max(initial=0) for ids in (*pairs, *others)))
    among: np.ndarray = np.isin(pairs[0] * width + pairs[1], others[0] * width + others[1])
    return among


def _offsets(indptr: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Where each node's begin among the ``chosen``, bool [messages]."""
    total: np.ndarray = np.concatenate([[0], np.cumsum(chosen)])[indptr]
    return total


def _decoded(send: Send, header: Header, payload: Buffer) -> Messages:
    """One received message in the form in which this block's own are sent."""
    if header.kind != send.kind or header.elements != width(send.rows):
        raise WireError(
            f"node {header.sender} sent {header.elements} numbers of kind {header.kind!r} where "
            f"{width(send.rows)} of kind {send.kind!r} were due"
        )
    message = send.codec.decode(payload, header.elements)
    return message.unsqueeze(0) if isinstance(message, torch.Tensor) else message


class Said(Protocol):
    """What is sent, and how it becomes bytes: a :class:`Send` or a ``Put``."""

    @property
    def rows(self) -> Messages:
        """The messages."""

    @property
    def codec(self) -> Codec:
        """How a message becomes bytes."""


def sizes_of(send: Said) -> np.ndarray:
    """Bytes of each message with its header, int64 [m].

    Raises:
        ValueError: the codec does not say one number for each.
    """
    sizes = np.asarray(send.codec.size(send.rows))
    if sizes.shape != (len(send.rows),) or sizes.dtype.kind not in "iu":
        said = f"{list(sizes.shape)} of {sizes.dtype}"
        raise ValueError(f"size gives {said}, not whole numbers [{len(send.rows)}]")
    return sizes + HEADER_BYTES


def what_arrives(send: Said) -> Messages:
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


def rows_of(graph: Graph, block: Block) -> tuple[np.ndarray, np.ndarray]:
    """(indptr [n+1], nodes heard) of the block's nodes."""
    whole = len(block.ids) == graph.nodes
    return (graph.indptr, graph.indices) if whole else graph.rows(block.ids)


def nothing(messages: Messages) -> Messages:
    """No messages, of the same form."""
    return select(messages, np.zeros(0, dtype=np.int64))


def count_sent(block: Block, routes: Routes, sizes: np.ndarray) -> np.ndarray:
    """Count what is sent; returns each node's bytes [n].

    Args:
        sizes: bytes of each message, header included, int64 [messages].
    """
    n = len(block)
    load = tally(routes.senders, n, sizes[routes.message])
    book_backhaul(block, routes.senders, routes.receivers, sizes[routes.message])
    book_sent(block, tally(routes.senders, n), load)
    return load


def book_sent(block: Block, fanout: np.ndarray, load: np.ndarray) -> None:
    """Count so many messages and bytes, int64 [n] each, that the nodes send."""
    add_(block.state["messages_sent"], fanout)
    add_(block.state["bytes_sent"], load)
    before = block.report.get(MESSAGE_BYTES)
    if len(block) >= many.MANY:
        some = np.flatnonzero(fanout)
        figures = before if isinstance(before, Few) else Few(len(block))
        figures.put(some, load[some] / fanout[some], np.fmax)
        block.report[MESSAGE_BYTES] = figures
        return
    mean = np.where(fanout > 0, load / np.maximum(fanout, 1), np.nan)
    block.report[MESSAGE_BYTES] = mean if before is None else np.fmax(before, mean)


def count_received(block: Block, indptr: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Count messages of ``sizes`` [messages] bytes, the k-th node's at indptr[k]:indptr[k+1].

    Returns each node's bytes [n].
    """
    if len(block) >= many.MANY:
        rows = row_of_each(indptr)
        heard, count = tally(rows, len(block), sizes), tally(rows, len(block))
    else:
        total = np.concatenate([[0], np.cumsum(sizes)])
        heard, count = np.diff(total[indptr]), np.diff(indptr)
    book_received(block, count, heard)
    return heard


def book_received(block: Block, count: np.ndarray, heard: np.ndarray) -> None:
    """Count so many messages and bytes, int64 [n] each, that the nodes receive."""
    add_(block.state["messages_received"], count)
    add_(block.state["bytes_received"], heard)
