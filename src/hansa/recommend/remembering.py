"""What neighbours are known to have, since they sent it or were sent it: no byte is spent on that.

A node keeps one bit a rating and neighbour. It sends a neighbour only what that one is not known to
have. A neighbour may have lost what it had, so every node forgets all of it from time to time: no
rating is kept from anybody for good.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hansa.base.errors import ConfigError
from hansa.engine import Block, Inbox, Network
from hansa.recommend.choosing import Wanted

KNOWN = "known"
"""The note: which neighbours have a rating, a bit each, in the order of their ids."""
FORGET_AFTER = 100
"""Rounds in which a node forgets once what others have."""
_MOST = 64


class Neighbours:
    """The neighbours of a block's nodes, numbered from 0 at each node."""

    def __init__(self, block: Block) -> None:
        graph = block.graph(0)
        heard, hearing = graph, graph.transpose()
        self._of = [np.union1d(heard.row(i), hearing.row(i)) for i in block.ids.tolist()]

    def bit(self, k: int, node: int) -> np.uint64:
        """The bit by which the block's k-th node knows a neighbour."""
        return np.uint64(1) << np.uint64(np.searchsorted(self._of[k], node))


def check(network: Network) -> None:
    """Refuse neighbours that come and go, or are too many.

    Raises:
        ConfigError: naming the setting.
    """
    graph = network.graph(0)
    degrees = graph.in_degrees if graph.symmetric else graph.in_degrees + graph.out_degrees
    if network.changing or degrees.max(initial=0) > _MOST:
        problem = f"wants a topology that does not change, of {_MOST} neighbours a node at most"
        raise ConfigError("reconcile", "remembered", problem, "digest")


def of(block: Block) -> Neighbours:
    """The block's, worked out once."""
    known = block.tables.get("rex.neighbours")
    if known is None:
        known = block.tables["rex.neighbours"] = Neighbours(block)
    return known


def forget(block: Block, t: int) -> None:
    """Some nodes forget in round t what they know of others."""
    assert block.store is not None
    for node in block.ids.tolist():
        if (t + node) % FORGET_AFTER == FORGET_AFTER - 1:
            block.store.noted(node, KNOWN)[:] = 0


def wanted(block: Block, edges: Sequence[tuple[int, int]]) -> list[Wanted]:
    """A message for each (sender's position, receiver): what that one is not known to have."""
    store, neighbours = block.store, of(block)
    assert store is not None
    return [
        Wanted(k, among=store.noted(int(block.ids[k]), KNOWN) & neighbours.bit(k, to) == 0)
        for k, to in edges
    ]


def sent(
    block: Block, edges: Sequence[tuple[int, int]], places: Sequence[np.ndarray], lost: np.ndarray
) -> None:
    """These ratings went to these receivers, but for messages that were lost, bool or empty."""
    store, neighbours = block.store, of(block)
    assert store is not None
    for number, ((k, to), at) in enumerate(zip(edges, places, strict=True)):
        if not (len(lost) and lost[number]):
            store.noted(int(block.ids[k]), KNOWN)[at] |= neighbours.bit(k, to)


def heard(block: Block, inbox: Inbox, k: int, counts: np.ndarray, places: np.ndarray) -> None:
    """The senders of what a node received have it.

    Args:
        counts: int64 [messages], ratings of each.
        places: int64 [m], where they are in the node's store; -1: nowhere.
    """
    assert block.store is not None
    known, neighbours = block.store.noted(int(block.ids[k]), KNOWN), of(block)
    senders = inbox.senders[inbox.indptr[k] : inbox.indptr[k + 1]]
    bits = np.array([neighbours.bit(k, int(j)) for j in senders], dtype=np.uint64)
    there = places >= 0
    np.bitwise_or.at(known, places[there], np.repeat(bits, counts)[there])
