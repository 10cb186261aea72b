"""Named random streams.

Every random choice of a run comes from a stream named by (run seed, purpose, node, round), so
that a choice never depends on how many others were made before it: a run is the same however
its nodes are split over workers, and after a resume. Two nodes share a stream by naming it.

What both ends of a message, or a server, must be able to draw alike is *shared*: it follows from
the run's seed, which everybody has. What a node draws for itself alone (batches, noise, keys) is
its *own*: where its holder has a secret it follows from that as well, and nobody else can
compute it.
"""

from __future__ import annotations

import hashlib
import struct
from functools import cache
from typing import Any, cast

import numpy as np

SHARED = -1
"""The ``node`` (or ``round``) of a stream that belongs to no single node (or round)."""
LEAST_SECRET = 16
"""Bytes that a holder's secret has at least."""


class Streams:
    """Random generators by name.

    Args:
        seed: the run's seed, any integer that fits in 64 bits.
        secret: the holder's, of at least :data:`LEAST_SECRET` bytes; None: it has none. It is in
            no text of this object, and belongs in no message, log or run file.

    Attributes:
        seed: the run's seed.
        private: whether the holder's own draws follow from a secret.

    Raises:
        ValueError: the secret is too short.
    """

    def __init__(self, seed: int, secret: bytes | None = None) -> None:
        if secret is not None and len(secret) < LEAST_SECRET:
            raise ValueError(f"a secret of {len(secret)} bytes; at least {LEAST_SECRET}")
        self.seed = int(seed)
        self.private = secret is not None
        self._own = self if secret is None else _Own(self.seed, secret)

    @property
    def own(self) -> Streams:
        """The holder's own streams: keyed with its secret, or these where it has none."""
        return self._own

    def key(self, purpose: str, node: int = SHARED, round: int = SHARED) -> bytes:
        """The 16 bytes that name a stream."""
        return hashlib.blake2b(self._label(purpose, node, round), digest_size=16).digest()

    def numpy(self, purpose: str, node: int = SHARED, round: int = SHARED) -> np.random.Generator:
        """A fresh NumPy generator (Philox, keyed by the stream's name)."""
        key = cast("np.random.SeedSequence", _keys()(self.key(purpose, node, round)))
        return np.random.Generator(np.random.Philox(key))

    def integer(self, purpose: str, node: int = SHARED, round: int = SHARED) -> int:
        """A 63-bit seed for a library that wants an integer (torch, networkx)."""
        return int.from_bytes(self.key(purpose, node, round)[:8], "little") >> 1

    def _label(self, purpose: str, node: int, round: int) -> bytes:
        return struct.pack("<qqq", self.seed, int(node), int(round)) + purpose.encode()


class _Key:
    """A generator's key as it is: ``Philox(key=...)``, but that one asks the system for entropy
    that it does not use."""

    def __init__(self, key: bytes) -> None:
        self._key = np.frombuffer(key, dtype=np.uint64)

    def generate_state(self, n_words: int, dtype: Any = None) -> np.ndarray:
        return self._key


@cache
def _keys() -> type[_Key]:
    """The class, once NumPy takes it for a source of seeds."""
    np.random.bit_generator.ISeedSequence.register(_Key)
    return _Key


class _Own(Streams):
    """Streams named by a holder's secret too: BLAKE2b keyed with it (RFC 7693)."""

    def __init__(self, seed: int, secret: bytes) -> None:
        super().__init__(seed)
        self.private = True
        self._secret = hashlib.blake2b(secret, digest_size=hashlib.blake2b.MAX_KEY_SIZE).digest()

    def key(self, purpose: str, node: int = SHARED, round: int = SHARED) -> bytes:
        label = self._label(purpose, node, round)
        return hashlib.blake2b(label, digest_size=16, key=self._secret).digest()
