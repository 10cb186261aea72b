"""Encrypting, taking weighted sums, hiding how they were taken, and decrypting.

A ciphertext of m is (a, b) with b = a·s + e + round(q·m / t) over Z_q[X] / (X^N + 1), q of two
primes and t = 2^plain_bits, m signed in [-t/2, t/2) (Lyubashevsky, Peikert, Regev, 2010; the
message in the high bits as in Fan, Vercauteren, 2012). Halves are uint64 [k, L, N], canonical
residues; names with ``ntt`` are values at the roots (:mod:`ntt`), others coefficients.

The server's sum A, B tells its weights to whoever holds s: A is a known combination of masks, and
so is the error B - A·s - round(q·m / t). :func:`rerandomise` adds an encryption of zero under the
client's public key and floods the error; no reply is ever sent without.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hansa.base.errors import ConfigError
from hansa.infer.private.rlwe import ntt
from hansa.infer.private.rlwe.draws import SEED_BYTES, Draws
from hansa.infer.private.rlwe.keys import PublicKey, SecretKey, auxiliary, mask, masks
from hansa.infer.private.rlwe.profiles import AUXILIARY_PRIME, Profile
from hansa.infer.private.rlwe.residues import (
    WORD_BITS,
    add,
    check_plain_bits,
    lift,
    lift_wide,
    multiply_add,
    pack_residues,
    phases,
    product_add,
    scaled,
    switch,
    unpack_residues,
)
from hansa.infer.private.rlwe.spreading import spread

__all__ = [
    "Sealed", "add", "decrypt", "encrypt", "masks", "multiply_add", "pack_residues", "phase",
    "rerandomise", "scaled", "switch", "to_ntt", "unpack_residues",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Sealed:
    """Fresh ciphertexts as they are sent.

    Attributes:
        mask_seed: what ``masks`` makes their halves ``a`` of.
        b_ntt: uint64 [k, L, N].
    """

    mask_seed: bytes
    b_ntt: np.ndarray


def to_ntt(profile: Profile, numbers: np.ndarray, threads: int = 1) -> np.ndarray:
    """Polynomials of integers int64 [k, N] in the NTT domain, uint64 [k, L, N]."""
    _check_size(profile, numbers, "numbers")
    return ntt.forward(profile, lift(profile, numbers), threads)


def encrypt(
    secret: SecretKey, messages: np.ndarray, plain_bits: int, draws: Draws, threads: int = 1
) -> Sealed:
    """Ciphertexts of integers int64 [k, N] in [-t/2, t/2), one mask seed for all.

    Raises:
        ConfigError: wrong shape, or messages out of range.
    """
    profile = secret.profile
    check_plain_bits(plain_bits)
    _check_size(profile, messages, "messages")
    half = 1 << (plain_bits - 1)
    if messages.size and (messages.min() < -half or messages.max() >= half):
        raise ConfigError("messages", None, f"do not fit into {plain_bits} bits")
    mask_seed, secrets = draws.bytes(SEED_BYTES), draws.bytes(SEED_BYTES)
    b_ntt = np.empty((len(messages), profile.levels, profile.n), np.uint64)

    def work(part: slice) -> None:
        for one in range(part.start, part.stop):  # one by one, while it is in the cache
            now = slice(one, one + 1)
            error = Draws(secrets, str(one)).gaussian(profile, 1)
            body = scaled(profile, messages[now], plain_bits, lift(profile, error))
            ntt.forward(profile, body)
            a_ntt = mask(profile, mask_seed, one)
            product_add(profile, secret.values, a_ntt, body, b_ntt[now])

    spread(work, len(messages), threads)
    return Sealed(mask_seed, b_ntt)


def rerandomise(
    public: PublicKey,
    a_ntt: np.ndarray,
    b_ntt: np.ndarray,
    flooding_bits: int,
    draws: Draws,
    threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """The same messages as coefficients under a fresh mask, with flooded errors.

    Adds u·(a, b) + (e1, e0) of the public key and an integer uniform in ±2^flooding_bits to each
    coefficient of the second half.

    Returns:
        Both halves, coefficients [k, L, N].
    """
    profile, secrets = public.profile, draws.bytes(SEED_BYTES)
    a, b = np.empty_like(a_ntt), np.empty_like(b_ntt)

    def work(part: slice) -> None:
        for one in range(part.start, part.stop):
            now, own = slice(one, one + 1), Draws(secrets, str(one))
            mixer = ntt.forward(profile, lift(profile, own.ternary(profile, 1)))
            for half, key, given in ((a, public.a_ntt, a_ntt), (b, public.b_ntt, b_ntt)):
                into = product_add(profile, key, mixer, given[now], half[now])
                lift(profile, own.gaussian(profile, 1), ntt.inverse(profile, into))
            lift_wide(profile, own.flooding(1, profile.n, flooding_bits), b[now])

    spread(work, len(a), threads)
    return a, b


def phase(
    secret: SecretKey,
    a_words: np.ndarray,
    b_words: np.ndarray,
    positions: np.ndarray,
    bits: int = WORD_BITS,
    threads: int = 1,
) -> np.ndarray:
    """b - a·s modulo 2^bits at some coefficients, exactly.

    Args:
        a_words: uint32 [k, N], rounded by :func:`switch`.
        b_words: uint32 [k, P], the coefficients at ``positions``.
        positions: int64 [k, P].
        bits: what they were rounded to.

    Returns:
        uint32 [k, P].
    """
    ring, lost = auxiliary(secret.profile), np.uint32(WORD_BITS - bits)
    out = np.empty(b_words.shape, np.uint32)

    def work(part: slice) -> None:
        none = np.zeros((1, 1, ring.n), np.uint64)
        for one in range(part.start, part.stop):
            signed = (a_words[one : one + 1] << lost).view(np.int32).astype(np.int64)
            values = ntt.forward(ring, lift(ring, signed))
            product_add(ring, secret.auxiliary_values, values, none, values)
            product = ntt.inverse(ring, values)[0, 0]
            out[one] = phases(AUXILIARY_PRIME, product, positions[one], b_words[one], bits)

    spread(work, len(a_words), threads)
    return out


def decrypt(
    secret: SecretKey,
    a_words: np.ndarray,
    b_words: np.ndarray,
    positions: np.ndarray,
    plain_bits: int,
    bits: int = WORD_BITS,
    threads: int = 1,
) -> np.ndarray:
    """The messages int64 [k, P] of rounded ciphertexts; arguments as of :func:`phase`."""
    check_plain_bits(plain_bits)
    lost = np.uint32(WORD_BITS - bits)
    words = phase(secret, a_words, b_words, positions, bits, threads) << lost
    rounded = words + np.uint32(1 << (WORD_BITS - 1 - plain_bits))
    return (rounded.view(np.int32) >> np.int32(WORD_BITS - plain_bits)).astype(np.int64)


def _check_size(profile: Profile, numbers: np.ndarray, name: str) -> None:
    if numbers.ndim != 2 or numbers.shape[1] != profile.n:
        raise ConfigError(name, numbers.shape, f"polynomials here have {profile.n} coefficients")
