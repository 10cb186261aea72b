"""Shared secrets between nodes that never talk: X25519, relayed by a node that both talk to.

Every node sends its public key to those who hear it; these pass on to each the keys of the others
that they hear. Two nodes with a common receiver then share a secret which the receiver, who saw
only public keys, does not know. An honest receiver is assumed: one that passed on keys of its own
making would sit in the middle. A node notices when two receivers tell it different keys of one
peer.

On a static graph this is done once and kept in ``block.state``; on a changing one every round.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from functools import lru_cache
from typing import Literal

import numpy as np

from hansa.base.errors import RunError, WireError
from hansa.base.lazy import Lazy, sparse, torch
from hansa.codec import Packets, Raw
from hansa.engine import Block, Inbox, Send
from hansa.topology import Graph

_PRIMITIVES = "cryptography.hazmat.primitives"
x25519 = Lazy(f"{_PRIMITIVES}.asymmetric.x25519")
hashes, hkdf = Lazy(f"{_PRIMITIVES}.hashes"), Lazy(f"{_PRIMITIVES}.kdf.hkdf")

KEY_BYTES = 32
_ENTRY = [("node", "<u4"), ("key", "u1", KEY_BYTES)]


KeySource = Literal["auto", "seeded", "random"]


def own_keys(block: Block, source: KeySource) -> None:
    """Give every node its secret key, in ``block.state``.

    ``seeded`` keys follow from the holder's own streams: from its secret, or where it has none
    from the run's seed, so that anyone who has the run file has them. ``random`` ones come from
    the operating system. ``auto`` is seeded where nobody could learn a key who does not hold it
    anyhow: where the holder has a secret, or one block holds all nodes; else random. Checkpoints
    hold the keys.
    """
    if source == "auto":
        source = "seeded" if block.streams.private or block.whole else "random"
    keys = []
    for i in block.ids:
        if source == "random":
            keys.append(os.urandom(KEY_BYTES))
        else:
            own = block.streams.own
            halves = [own.key(f"secure_dpsgd key {half}", int(i)) for half in (0, 1)]
            keys.append(b"".join(halves))
    block.state["secure.key"] = _bytes_tensor(keys)


def agree(block: Block, graph: Graph) -> Generator[Send, Inbox, list[dict[int, bytes]]]:
    """What each node of the block shares with each peer, by the peer's id.

    Two exchanges, or none where they are known from a round before.

    Raises:
        WireError: a relayed list is malformed, or not that of the receiver's neighbours.
        RunError: two receivers relayed different keys of one node.
    """
    static = not block.network.changing
    if static and "secure.peers" in block.state:
        return _recalled(block)
    own = [key.numpy().tobytes() for key in block.state["secure.key"]]
    public = Packets(tuple(public_key(key) for key in own))
    inbox = yield Send(public, graph, Raw(), kind="public key", on_missing="wait")
    inbox = yield Send(
        _relayed(inbox), graph.transpose(), Raw(), kind="relayed keys", each=True, on_missing="wait"
    )
    secrets = []
    for k, node in enumerate(block.ids.tolist()):
        keys = _heard_of(node, graph, inbox, k)
        secrets.append({peer: shared_secret(own[k], key) for peer, key in keys.items()})
    if static:
        _remember(block, secrets, most_peers(graph))
    return secrets


def _remember(block: Block, found: list[dict[int, bytes]], width: int) -> None:
    """Keep secrets as tensors, which checkpoints hold; ``width`` is the same in all blocks."""
    peers = np.full((len(block), width), -1, dtype=np.int64)
    shared = np.zeros((len(block), width, KEY_BYTES), dtype=np.uint8)
    for k, of_node in enumerate(found):
        for place, (peer, secret) in enumerate(sorted(of_node.items())):
            peers[k, place], shared[k, place] = peer, np.frombuffer(secret, dtype=np.uint8)
    block.state["secure.peers"] = torch.from_numpy(peers)
    block.state["secure.shared"] = torch.from_numpy(shared)


def _recalled(block: Block) -> list[dict[int, bytes]]:
    peers, shared = block.state["secure.peers"].tolist(), block.state["secure.shared"].numpy()
    return [
        {j: shared[k, place].tobytes() for place, j in enumerate(row) if j >= 0}
        for k, row in enumerate(peers)
    ]


def public_key(secret: bytes) -> bytes:
    """The public half of an X25519 key pair."""
    return x25519.X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


@lru_cache(maxsize=1 << 16)  # on a changing graph a node meets the same peers again
def shared_secret(secret: bytes, public: bytes) -> bytes:
    """32 bytes that the owners of two key pairs, and nobody else, can compute.

    Raises:
        WireError: the public key is of low order: the result would be known to all.
    """
    try:
        raw = x25519.X25519PrivateKey.from_private_bytes(secret).exchange(
            x25519.X25519PublicKey.from_public_bytes(public)
        )
    except ValueError as error:
        raise WireError(f"a public key that is none: {error}") from None
    ends = b"".join(sorted((public_key(secret), public)))
    derive = hkdf.HKDF(
        hashes.SHA256(), length=KEY_BYTES, salt=None, info=b"hansa secure_dpsgd" + ends
    )
    return derive.derive(raw)


def most_peers(graph: Graph) -> int:
    """The most nodes with whom one node has a receiver in common."""
    ones = np.ones(graph.edges, dtype=np.int64)
    hears = sparse.csr_array((ones, graph.indices, graph.indptr), shape=(graph.nodes,) * 2)
    together = (hears.T @ hears).tocsr()
    return max(int(np.diff(together.indptr).max(initial=0)) - 1, 0)  # 1 for the node itself


def _relayed(inbox: Inbox) -> Packets:
    """For each node that a receiver hears, the keys of the others that it hears."""
    lists = []
    for k in range(len(inbox.ids)):
        senders, keys = inbox.messages(k)
        assert isinstance(keys, Packets)
        entries = np.zeros(len(senders), dtype=_ENTRY)
        entries["node"] = senders
        for place, (sender, key) in enumerate(zip(senders, keys.packets, strict=True)):
            if len(key) != KEY_BYTES:
                raise WireError(f"node {sender} sent a public key of {len(key)} bytes")
            entries["key"][place] = np.frombuffer(key, dtype=np.uint8)
        lists += [np.delete(entries, place).tobytes() for place in range(len(senders))]
    return Packets(tuple(lists))


def _heard_of(node: int, graph: Graph, inbox: Inbox, k: int) -> dict[int, bytes]:
    """Public keys of a node's peers, from all the lists that it was sent."""
    public_keys: dict[int, bytes] = {}
    relays, lists = inbox.messages(k)
    assert isinstance(lists, Packets)
    for relay, packet in zip(relays.tolist(), lists.packets, strict=True):
        row = graph.row(relay)
        if len(packet) != np.dtype(_ENTRY).itemsize * (len(row) - 1):
            raise WireError(f"node {relay} relayed {len(packet)} bytes of keys to node {node}")
        entries = np.frombuffer(packet, dtype=_ENTRY)
        if not np.array_equal(entries["node"], row[row != node]):
            raise WireError(f"node {relay} relayed keys of other nodes than it hears")
        for peer, key in zip(entries["node"].tolist(), entries["key"], strict=True):
            if public_keys.setdefault(peer, key.tobytes()) != key.tobytes():
                raise RunError(
                    f"node {relay} relayed another key of node {peer} than those before it: "
                    "someone forges keys",
                    node=node,
                )
    return public_keys


def _bytes_tensor(rows: list[bytes]) -> torch.Tensor:
    """uint8 [n, bytes]."""
    return torch.from_numpy(np.array([np.frombuffer(row, dtype=np.uint8) for row in rows]))
