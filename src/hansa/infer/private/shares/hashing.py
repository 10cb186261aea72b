"""A hash of 128-bit labels from AES under a public key, for circuits with free XOR and transfers.

TMMO of Guo, Katz, Wang, Yu (2020, section 7.4): H(x, i) = P(P(x) ^ i) ^ P(x) is tweakable circular
correlation robust when P is an ideal permutation, which is what half gates ask for. P is AES-128
under a key that each garbling and each transfer makes anew, so that nothing is shared between them.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from hansa.base.lazy import Lazy

ciphers = Lazy("cryptography.hazmat.primitives.ciphers")


def derive(seed: bytes, *parts: str | int | bytes, size: int = 32) -> bytes:
    """Bytes that depend on a seed and on every part, none of which can be taken for another."""
    hashed = blake2b(digest_size=size, person=b"hansa-shares")
    for part in (seed, *parts):
        plain = part if isinstance(part, bytes) else str(part).encode()
        hashed.update(len(plain).to_bytes(8, "little"))
        hashed.update(plain)
    return hashed.digest()


def stream(key: bytes, size: int) -> bytes:
    """``size`` bytes of AES in counter mode from zero, under the first 16 bytes of a key."""
    mode = ciphers.modes.CTR(bytes(16))
    return bytes(
        ciphers.Cipher(ciphers.algorithms.AES(key[:16]), mode).encryptor().update(bytes(size))
    )


def labels(key: bytes, *shape: int) -> np.ndarray:
    """Uniform labels uint64 [*shape, 2]."""
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(stream(key, 16 * count), "<u8").astype(np.uint64).reshape(*shape, 2)


class LabelHash:
    """The hash under one key: 16 bytes."""

    def __init__(self, key: bytes) -> None:
        self._permute = ciphers.Cipher(
            ciphers.algorithms.AES(key[:16]), ciphers.modes.ECB()
        ).encryptor()

    def _blocks(self, numbers: np.ndarray) -> np.ndarray:
        plain = np.ascontiguousarray(numbers)
        out = bytearray(plain.nbytes + 15)
        size = self._permute.update_into(plain.view(np.uint8).reshape(-1), out)
        return np.frombuffer(out, np.uint64, size // 8).reshape(plain.shape)

    def __call__(self, numbers: np.ndarray, tweaks: np.ndarray) -> np.ndarray:
        """Labels uint64 [..., n, 2] hashed with tweaks uint64 [..., n] (none twice)."""
        inner = self._blocks(numbers)
        tweaked = inner.copy()
        tweaked[..., 0] ^= tweaks
        return self._blocks(tweaked) ^ inner
