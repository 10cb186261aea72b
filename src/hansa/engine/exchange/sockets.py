"""The exchange between blocks in different workers, over sockets."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from hansa.base.errors import WireError
from hansa.base.lazy import torch
from hansa.codec.messages import concatenate, select, width
from hansa.engine.block import Block
from hansa.engine.exchange.exchange import (
    Inbox,
    Routes,
    Send,
    Share,
    count_received,
    count_sent,
    nothing,
    sizes_of,
    what_arrives,
)
from hansa.engine.exchange.mesh import Key
from hansa.engine.exchange.wire import HEADER_BYTES, Header, checksum, pack_control, unpack_control
from hansa.engine.time.clock import Clock


class Post(Protocol):
    """What carries messages between the blocks of a run: sockets, or what stands in for them.

    Attributes:
        index: which of the workers this is.
        owner: the worker of each node of the run.
    """

    index: int
    owner: list[int]

    def send(self, header: Header, payload: bytes | memoryview, *more: Header) -> None:
        """Take a message for another worker; ``more`` of its nodes may hear the same."""

    def gather(self, round: int, phase: int, expected: set[Key]) -> dict[Key, tuple[Header, bytes]]:
        """Wait for all expected messages of an exchange."""


class SocketExchange:
    """Encodes, frames and sends what goes to other workers; counts what stays as if it had."""

    def __init__(self, mesh: Post, clock: Clock) -> None:
        self.mesh, self.clock = mesh, clock
        self.owner = np.asarray(mesh.owner)

    def __call__(self, block: Block, send: Send, round: int, phase: int) -> Inbox:
        graph, ids = send.graph, block.ids
        routes = Routes.of(block, send)
        sizes = sizes_of(send)
        arrivals = self.clock.send(block, count_sent(block, routes, sizes))
        self._speak(block, send, routes, round, phase, arrivals)

        indptr, senders = graph.rows(ids)
        receivers = np.repeat(ids, np.diff(indptr))
        foreign = self.owner[senders] != self.mesh.index
        expected: set[Key] = set(
            zip(senders[foreign].tolist(), receivers[foreign].tolist(), strict=True)
        )
        got = self.mesh.gather(round, phase, expected)

        # What stays in this block goes by the same routes as what leaves it.
        through = what_arrives(send)
        lossless = through is send.rows
        offset = 0 if lossless else len(send.rows)
        home = self.owner[routes.receivers] == self.mesh.index
        pair = ids[routes.senders[home]] * graph.nodes + routes.receivers[home]
        order = np.argsort(pair)
        wanted = senders[~foreign] * graph.nodes + receivers[~foreign]
        local = routes.message[home][order[np.searchsorted(pair[order], wanted)]]

        slots, weight, due = (np.zeros(len(senders), dtype=t) for t in (np.int64, np.int64, float))
        slots[~foreign] = local + offset
        weight[~foreign] = sizes[local]
        due[~foreign] = arrivals[np.searchsorted(ids, senders[~foreign])]
        tables = [nothing(send.rows) if lossless else through]
        filed: dict[int, int] = {}
        count = len(send.rows) + len(tables[0])
        for e in np.flatnonzero(foreign):
            sender = int(senders[e])
            header, payload = got[(sender, int(receivers[e]))]
            weight[e], due[e] = header.size + HEADER_BYTES, header.arrival
            if send.each or sender not in filed:
                tables.append(_decoded(send, header, payload))
                filed[sender] = count
                count += 1
            slots[e] = filed[sender]
        self.clock.receive(block, count_received(block, indptr, weight), indptr, due)
        received = concatenate(tables)
        if isinstance(received, torch.Tensor) and isinstance(send.rows, torch.Tensor):
            received = received.to(send.rows.device)
        return Inbox(ids, indptr, senders, slots, send.rows, received, due)

    def share(self, block: Block, share: Share, round: int, phase: int) -> dict[str, np.ndarray]:
        first = [int(np.argmax(self.owner == worker)) for worker in np.unique(self.owner)]
        own = first[self.mesh.index]
        payload = pack_control("share", **share.values)
        for other in first:
            if other != own:
                self.mesh.send(_notice(own, other, round, phase, payload), payload)
        got = self.mesh.gather(round, phase, {(other, own) for other in first if other != own})
        parts = []
        for other in first:
            said: dict[str, Any] = (
                share.values if other == own else unpack_control(got[other, own][1])
            )
            if not share.values.keys() <= said.keys():
                raise WireError(f"the worker of node {other} shared {sorted(said)}")
            parts.append(said)
        return {name: np.concatenate([part[name] for part in parts]) for name in share.values}

    def _speak(
        self,
        block: Block,
        send: Send,
        routes: Routes,
        round: int,
        phase: int,
        arrivals: np.ndarray,
    ) -> None:
        """Send every message whose receiver lives elsewhere: encoded once, sent once a worker."""
        away = np.flatnonzero(self.owner[routes.receivers] != self.mesh.index)
        if not len(away):
            return
        needed, place = np.unique(routes.message[away], return_inverse=True)
        payloads = send.codec.encode(select(send.rows, needed))
        digests = [checksum(payload) for payload in payloads]
        bound: dict[tuple[int, int], list[Header]] = {}
        for route, k in zip(away.tolist(), place.tolist(), strict=True):
            sender = routes.senders[route]
            header = Header(
                sender=int(block.ids[sender]),
                receiver=int(routes.receivers[route]),
                round=round,
                phase=phase,
                elements=width(send.rows),
                size=len(payloads[k]),
                checksum=digests[k],
                arrival=float(arrivals[sender]),
                kind=send.kind,
            )
            bound.setdefault((k, int(self.owner[header.receiver])), []).append(header)
        for (k, _), headers in bound.items():
            self.mesh.send(headers[0], payloads[k], *headers[1:])


def _notice(sender: int, receiver: int, round: int, phase: int, payload: bytes) -> Header:
    """The header of what one worker shares with another, in the name of its first node."""
    return Header(
        sender=sender,
        receiver=receiver,
        round=round,
        phase=phase,
        elements=0,
        size=len(payload),
        checksum=checksum(payload),
        arrival=0.0,
        kind="share",
    )


def _decoded(send: Send, header: Header, payload: bytes):  # type: ignore[no-untyped-def]
    """One received message in the form in which this block's own are sent."""
    if header.kind != send.kind or header.elements != width(send.rows):
        raise WireError(
            f"node {header.sender} sent {header.elements} numbers of kind {header.kind!r} where "
            f"{width(send.rows)} of kind {send.kind!r} were due"
        )
    message = send.codec.decode(payload, header.elements)
    return message.unsqueeze(0) if isinstance(message, torch.Tensor) else message
