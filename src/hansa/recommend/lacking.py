"""Who asks whom for what it lacks, by digests of what it has (see ``digests.py``)."""

from __future__ import annotations

import numpy as np

from hansa.codec import Packets
from hansa.engine import Block, Inbox
from hansa.recommend import digests
from hansa.recommend.choosing import Wanted
from hansa.recommend.outgoing import Receivers


def asked(block: Block, t: int, to: Receivers, entries: int) -> Packets:
    """A packet for each link from the block: a digest of what the sender has, or nothing.

    Who asks several neighbours asks each for another part of all ratings, so that no two of them
    send it the same.

    Args:
        entries: ratings that a digest covers, about.
    """
    assert block.store is not None
    packets = [b""] * to.edges
    links = to.links(block)
    for e in (to.chosen[to.speaks] if to.one else np.arange(to.edges)).tolist():
        node, neighbour = int(block.ids[links[e][0]]), links[e][1]
        part, parts = _part(to, node, neighbour)
        keys, salt = block.store.keys(node), _salt(block, node, t)
        packets[e] = digests.packed(keys, salt, entries, part, parts)
    return Packets(tuple(packets))


def answers(block: Block, t: int, to: Receivers, inbox: Inbox) -> tuple[list[Wanted], np.ndarray]:
    """What those who asked lack, and on which of the links from the block it goes, int64.

    Raises:
        WireError: what a node sent is no digest.
    """
    assert block.store is not None
    wanted: list[Wanted] = []
    at: list[int] = []
    place = {link: e for e, link in enumerate(to.links(block))}
    for k, node in enumerate(block.ids.tolist()):
        senders, messages = inbox.messages(k)
        assert isinstance(messages, Packets)  # an exchange has one form
        keys = None
        for asker, packet in zip(senders.tolist(), messages.packets, strict=True):
            if not packet:
                continue
            keys = block.store.keys(node) if keys is None else keys
            digest = digests.unpacked(packet, _salt(block, asker, t), *_part(to, asker, node))
            wanted.append(Wanted(k, among=digest.lacked(keys)))
            at.append(place[k, asker])
    return wanted, np.array(at, dtype=np.int64)


def _part(to: Receivers, asker: int, node: int) -> tuple[int, int]:
    """(which part of all ratings a node is asked for, of how many)."""
    if to.one:
        return 0, 1
    row = to.graph.row(asker)
    return int(np.searchsorted(row, node)), len(row)


def _salt(block: Block, node: int, t: int) -> int:
    """Of a node's digests in a round; both ends draw it alike."""
    return block.streams.integer("rex digest", node, t)
