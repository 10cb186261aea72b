"""Named random streams.

Every random choice of a run comes from a stream named by (run seed, purpose, node, round), so
that a choice never depends on how many others were made before it: a run is the same however
its nodes are split over workers, and after a resume. Two nodes share a stream by naming it.
"""

from __future__ import annotations

import hashlib
import struct

import numpy as np

SHARED = -1
"""The ``node`` (or ``round``) of a stream that belongs to no single node (or round)."""


class Streams:
    """Random generators by name.

    Args:
        seed: the run's seed, any integer that fits in 64 bits.
    """

    def __init__(self, seed: int) -> None:
        self.seed = int(seed)

    def key(self, purpose: str, node: int = SHARED, round: int = SHARED) -> bytes:
        """The 16 bytes that name a stream."""
        label = struct.pack("<qqq", self.seed, int(node), int(round)) + purpose.encode()
        return hashlib.blake2b(label, digest_size=16).digest()

    def numpy(self, purpose: str, node: int = SHARED, round: int = SHARED) -> np.random.Generator:
        """A fresh NumPy generator (Philox, keyed by the stream's name)."""
        key = np.frombuffer(self.key(purpose, node, round), dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key))

    def integer(self, purpose: str, node: int = SHARED, round: int = SHARED) -> int:
        """A 63-bit seed for a library that wants an integer (torch, networkx)."""
        return int.from_bytes(self.key(purpose, node, round)[:8], "little") >> 1
