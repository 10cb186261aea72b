"""Masks that cancel exactly: fixed-point numbers in the ring of integers modulo 2^32.

A real number v becomes round(v 2^f) mod 2^32. A pad is a key stream read as 32-bit integers: one
end of a pair adds it, the other subtracts it, and the sum over all nodes is as if there were none,
to the bit. A sum of m numbers is read back right as long as each is below 2^31 / m in units of
2^-f, which :func:`quantize` checks. (Floats with float masks would lose precision in proportion to
the masks' size.)

The stream is AES-128 in counter mode, which OpenSSL runs 1.5 times as fast as ChaCha20 where the
processor has AES instructions (``benchmarks/results/secure_aggregation.md``); a key serves for one
pair, one receiver and one round only.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

from hansa.base.errors import WireError
from hansa.base.lazy import Lazy

ciphers = Lazy("cryptography.hazmat.primitives.ciphers")
kernels = Lazy("hansa.learn.secure.masking_kernels")  # they need numba

SEED_BYTES = 16
WORD = 32
_COUNTER = bytes(16)
_CHUNK = 1 << 16  # words: a chunk of the key stream stays in a core's second-level cache
_SLACK = 16  # bytes that OpenSSL wants beyond the end
_ZEROS = bytes(4 * _CHUNK)


def pad_seed(shared: bytes, receiver: int, round: int) -> bytes:
    """The key of one pad, from a pair's shared secret: keyed BLAKE2b, so one tells no other."""
    label = struct.pack("<qq", receiver, round)
    hashed = hashlib.blake2b(label, key=shared, digest_size=SEED_BYTES, person=b"hansa pad")
    return hashed.digest()


def add_pads(words: np.ndarray, plus: Iterable[bytes], minus: Iterable[bytes]) -> None:
    """Add and subtract the pads of these seeds in place; ``words`` is uint32 [k]."""
    pads: list[tuple[np.ufunc, Any]] = [(np.add, _stream(seed)) for seed in plus]
    pads += [(np.subtract, _stream(seed)) for seed in minus]
    if not pads:
        return
    size = min(len(words), _CHUNK)
    stream = np.empty(4 * size + _SLACK, dtype=np.uint8)
    zeros = memoryview(_ZEROS)
    for start in range(0, len(words), _CHUNK):
        part = words[start : start + _CHUNK]
        pad = stream[: 4 * len(part)].view("<u4")
        for combine, cipher in pads:
            cipher.update_into(zeros[: 4 * len(part)], stream)
            combine(part, pad, out=part)


def _stream(seed: bytes) -> Any:
    made = ciphers.Cipher(ciphers.algorithms.AES(seed), ciphers.modes.CTR(_COUNTER))
    return made.encryptor()


def quantize(
    numbers: np.ndarray, weight: float, fraction_bits: int, terms: int
) -> tuple[np.ndarray, int]:
    """round(weight x 2^f) mod 2^32 of each number x, ready to be one of ``terms`` terms.

    Args:
        numbers: float32 [k].

    Returns:
        (uint32 [k], the first position whose number is too large or not finite, or -1).
    """
    words = np.empty(len(numbers), dtype="<u4")
    bound = float((2 ** (WORD - 1) - 1) // max(terms, 1))
    if not kernels.quantize(numbers, weight * 2.0**fraction_bits, bound, words):
        with np.errstate(all="ignore"):  # of what is not finite
            scaled = np.rint(numbers.astype(np.float64) * (weight * 2.0**fraction_bits))
        return words, int(np.flatnonzero(~(np.abs(scaled) <= bound))[0])
    return words, -1


def total(packets: Iterable[bytes], size: int) -> np.ndarray:
    """The sum modulo 2^32 of vectors of ``size`` words, uint32 [size].

    Raises:
        WireError: one has another length.
    """
    summed = np.zeros(size, dtype="<u4")
    for packet in packets:
        if len(packet) != 4 * size:
            raise WireError(f"a masked vector of {len(packet)} bytes where {4 * size} were due")
        summed += np.frombuffer(packet, dtype="<u4")
    return summed


def add_sum_(numbers: np.ndarray, own: float, words: np.ndarray, step: float) -> None:
    """x <- own x + step s in place, for float32 x and s the signed reading of ``words``."""
    kernels.add_sum(numbers, own, words, step)
