"""Who vanished, and the pads that nobody cancels: the two exchanges after one of masked vectors.

Each receiver tells those it hears who is missing; those that are there answer with the seeds of
the pads that they share with the missing ones *for this receiver and round*, from which no other
pad follows. Nobody answers where so few are left that their models would show. The answers take
the uncancelled pads away; they never uncover a vector that arrived, unless the receiver lied.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from hansa.base.errors import WireError
from hansa.codec import Packets, Raw
from hansa.engine import Block, Inbox, Send
from hansa.learn.secure.masking import SEED_BYTES, pad_seed
from hansa.topology import Graph


@dataclass(frozen=True)
class Revealed:
    """Seeds of pads that a receiver adds to and subtracts from what arrived."""

    plus: list[bytes]
    minus: list[bytes]


def reveal(
    block: Block,
    graph: Graph,
    shared: list[dict[int, bytes]],
    lost: list[np.ndarray],
    least: int,
    t: int,
    spare: int | None = None,
) -> Generator[Send, Inbox, list[Revealed | None]]:
    """For each node of the block what takes the uncancelled pads away, or None.

    Args:
        shared: each node's secrets, by peer.
        lost: those whose vectors each node misses.
        least: how many must be left for their sum to be uncovered.
        spare: how many may be missing at most; None: any number.
    """
    backwards = graph.transpose()
    reports = []
    for k, node in enumerate(block.ids):
        senders = graph.row(int(node))
        ask = len(lost[k]) > 0 and len(senders) - len(lost[k]) >= least
        ask &= spare is None or len(lost[k]) <= spare
        for sender in senders:
            reports.append(
                lost[k].astype("<u4").tobytes() if ask and sender not in lost[k] else b""
            )
    inbox = yield Send(
        Packets(tuple(reports)), backwards, Raw(), kind="missing", each=True, on_missing="wait"
    )

    answers = []
    for k, node in enumerate(block.ids.tolist()):
        receivers, lists = inbox.messages(k)
        assert isinstance(lists, Packets)
        for receiver, packet in zip(receivers.tolist(), lists.packets, strict=True):
            missing = _asked(packet, graph, node, receiver, least, spare)
            answers.append(b"".join(pad_seed(shared[k][j], receiver, t) for j in missing))
    inbox = yield Send(
        Packets(tuple(answers)), graph, Raw(), kind="revealed", each=True, on_missing="wait"
    )
    return [_gathered(inbox, k, lost[k]) for k in range(len(block))]


def _asked(
    packet: bytes, graph: Graph, node: int, receiver: int, least: int, spare: int | None
) -> list[int]:
    """The nodes that a receiver says are missing.

    Raises:
        WireError: it is no list of some of the receiver's other neighbours, or it is so long that
            an answer would show a model.
    """
    if len(packet) % 4:
        raise WireError(f"node {receiver} sent a list of {len(packet)} bytes")
    missing = np.frombuffer(packet, dtype="<u4").astype(np.int64)
    row = graph.row(receiver)
    ascending = bool((np.diff(missing) > 0).all())
    if not ascending or not np.isin(missing, row).all() or node in missing:
        raise WireError(f"node {receiver} asked for pads that are not of its neighbours")
    if len(missing) and len(row) - len(missing) < least:
        raise WireError(f"node {receiver} asked for pads that would show a model")
    if spare is not None and len(missing) > spare:
        raise WireError(f"node {receiver} asked for pads of more than may be missing of a sum")
    return [int(j) for j in missing]


def _gathered(inbox: Inbox, k: int, lost: np.ndarray) -> Revealed | None:
    """What a node was told, or None when nobody is missing or too few were left to answer."""
    senders, answers = inbox.messages(k)
    assert isinstance(answers, Packets)
    revealed = Revealed([], [])
    for sender, packet in zip(senders.tolist(), answers.packets, strict=True):
        if sender in lost:
            continue
        if len(packet) != SEED_BYTES * len(lost):
            if packet:
                raise WireError(f"node {sender} revealed {len(packet)} bytes")
            return None
        for place, j in enumerate(lost.tolist()):
            seed = packet[place * SEED_BYTES : (place + 1) * SEED_BYTES]
            # The sender added its pad with j if j is above it, so that one is taken away.
            (revealed.minus if j > sender else revealed.plus).append(seed)
    return revealed if len(lost) and len(lost) < len(senders) else None
