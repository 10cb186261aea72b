"""Keys by which nodes sign: Ed25519 (RFC 8032), each from its holder's own streams.

Public halves are told when nodes join (``must_tell``: ``keys``), so that every node knows from the
start whose signature is whose; whoever has no secret of its own has keys that follow from the run's
seed, which all know: right for a simulation, and for nobody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hansa.base.streams import Streams

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

WORDS = 8
SIGNED = 64
"""Bytes of a signature."""
_BITS = 32


def _private(streams: Streams, node: int) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    halves = (streams.own.key("node key", node, half) for half in range(2))
    return Ed25519PrivateKey.from_private_bytes(b"".join(halves))


def public(streams: Streams, nodes: np.ndarray) -> np.ndarray:
    """The public keys of nodes whose own streams these are, as words of 32 bits, int64 [n, 8]."""
    keys = [_private(streams, node).public_key().public_bytes_raw() for node in nodes.tolist()]
    return np.frombuffer(b"".join(keys), dtype="<u4").astype(np.int64).reshape(len(keys), WORDS)


def sign(streams: Streams, node: int, text: bytes) -> bytes:
    """A node's signature, :data:`SIGNED` bytes."""
    return _private(streams, node).sign(text)


def signed_by(words: np.ndarray, proof: bytes, text: bytes) -> bool:
    """Whether a signature of a text is that of a public key.

    Args:
        words: int64 [8], the key, as :func:`public` has it.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(words.astype("<u4").tobytes())
        key.verify(proof, text)
    except (InvalidSignature, ValueError):
        return False
    return True


def owned(users: list[np.ndarray], every: int) -> np.ndarray:
    """Which of ``every`` numbers each node has, a bit each, int64 [n, words of 32 bits]."""
    owned = np.zeros((len(users), -(-every // _BITS)), dtype=np.int64)
    for k, mine in enumerate(users):
        each = np.unique(mine)
        np.bitwise_or.at(owned[k], each // _BITS, np.left_shift(1, each % _BITS))
    return owned


def owner(owned: np.ndarray, number: int) -> int:
    """Who has a number, of whom there is one at most; -1: nobody."""
    if not 0 <= number < owned.shape[1] * _BITS:
        return -1
    who = np.flatnonzero(owned[:, number // _BITS] >> (number % _BITS) & 1)
    return int(who[0]) if len(who) == 1 else -1
