"""The exchange between blocks in different workers, over sockets."""

from __future__ import annotations

import numpy as np
import torch

from hansa.base.errors import WireError
from hansa.engine.block import Block
from hansa.engine.clock import Clock
from hansa.engine.exchange import Inbox, Send, count_received, count_sent
from hansa.engine.mesh import Key, Mesh
from hansa.engine.wire import HEADER_BYTES, Header, checksum


class SocketExchange:
    """Encodes, frames and sends what goes to other workers; counts what stays as if it had."""

    def __init__(self, mesh: Mesh, clock: Clock) -> None:
        self.mesh, self.clock = mesh, clock

    def __call__(self, block: Block, send: Send, round: int, phase: int) -> Inbox:
        graph, ids, n = send.graph, block.ids, len(block)
        sizes = send.codec.size(send.rows) + HEADER_BYTES
        fanout = graph.out_degrees[ids]
        arrivals = self.clock.departures(block, sizes, fanout)
        count_sent(block, sizes, fanout)
        self._speak(block, send, round, phase, arrivals)

        lengths = graph.in_degrees[ids]
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        senders = np.concatenate([graph.row(i) for i in ids]) if n else graph.indices[:0]
        receivers = np.repeat(ids, lengths)
        place = np.full(graph.nodes, -1, dtype=np.int64)
        place[ids] = np.arange(n)
        foreign = place[senders] < 0
        expected: set[Key] = set(
            zip(senders[foreign].tolist(), receivers[foreign].tolist(), strict=True)
        )
        got = self.mesh.gather(round, phase, expected)

        through = send.codec.through(send.rows)
        lossless = through is send.rows
        rows = [] if lossless else list(through)
        local = place.copy() if lossless else np.where(place >= 0, place + n, -1)
        for (sender, _), (header, payload) in sorted(got.items()):
            if header.kind != send.kind or header.elements != send.rows.shape[1]:
                raise WireError(
                    f"node {sender} sent {header.elements} numbers of kind {header.kind!r} where "
                    f"{send.rows.shape[1]} of kind {send.kind!r} were due"
                )
            if local[sender] < 0:
                local[sender] = n + len(rows)
                rows.append(send.codec.decode(payload, header.elements))
        heard = np.zeros(n, dtype=np.int64)
        weight = np.zeros(len(senders), dtype=np.int64)
        due = np.zeros(len(senders))
        weight[~foreign] = sizes[place[senders[~foreign]]]
        due[~foreign] = arrivals[place[senders[~foreign]]]
        for e in np.flatnonzero(foreign):
            header = got[(int(senders[e]), int(receivers[e]))][0]
            weight[e], due[e] = header.size + HEADER_BYTES, header.arrival
        np.add.at(heard, place[receivers], weight)
        count_received(block, heard, lengths)
        self.clock.arrive(block, indptr, due)
        device = send.rows.device
        received = torch.stack(rows).to(device) if rows else send.rows[:0]
        return Inbox(ids, indptr, senders, local[senders], send.rows, received)

    def _speak(
        self, block: Block, send: Send, round: int, phase: int, arrivals: np.ndarray
    ) -> None:
        """Send every message whose receiver lives elsewhere, each encoded once."""
        hearers = send.graph.transpose()
        owner = np.asarray(self.mesh.owner)
        away = [row[owner[row] != self.mesh.index] for row in map(hearers.row, block.ids)]
        speaking = [k for k, row in enumerate(away) if len(row)]
        if not speaking:
            return
        payloads = send.codec.encode(send.rows[torch.tensor(speaking)])
        for k, payload in zip(speaking, payloads, strict=True):
            digest = checksum(payload)
            for receiver in away[k]:
                header = Header(
                    sender=int(block.ids[k]),
                    receiver=int(receiver),
                    round=round,
                    phase=phase,
                    elements=send.rows.shape[1],
                    size=len(payload),
                    checksum=digest,
                    arrival=float(arrivals[k]),
                    kind=send.kind,
                )
                self.mesh.send(header, payload)
