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
from hansa.infer.private.rlwe.keys import PublicKey, SecretKey, auxiliary, masks
from hansa.infer.private.rlwe.profiles import AUXILIARY_PRIME, Profile
from hansa.infer.private.rlwe.residues import (
    WORD_BITS,
    add,
    check_plain_bits,
    lift,
    lift_wide,
    multiply_add,
    pack_residues,
    product_add,
    scaled,
    switch,
    unpack_residues,
)

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
    mask_seed = draws.bytes(SEED_BYTES)
    body = scaled(profile, messages, plain_bits)
    body = ntt.forward(profile, lift(profile, draws.gaussian(profile, len(body)), body), threads)
    a_ntt = masks(profile, mask_seed, len(body))
    return Sealed(mask_seed, product_add(profile, secret.values, a_ntt, body, threads))


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
    profile, k = public.profile, len(a_ntt)
    mixer = ntt.forward(profile, lift(profile, draws.ternary(profile, k)), threads)
    a = ntt.inverse(profile, product_add(profile, public.a_ntt, mixer, a_ntt, threads), threads)
    b = ntt.inverse(profile, product_add(profile, public.b_ntt, mixer, b_ntt, threads), threads)
    lift(profile, draws.gaussian(profile, k), a)
    lift(profile, draws.gaussian(profile, k), b)
    return a, lift_wide(profile, draws.flooding(k, profile.n, flooding_bits), b)


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
    centred = (a_words << lost).view(np.int32).astype(np.int64)
    values = ntt.forward(ring, lift(ring, centred), threads)
    none = np.zeros_like(values)
    product = product_add(ring, secret.auxiliary_values, values, none, threads)
    whole = ntt.inverse(ring, product, threads)[:, 0].view(np.int64)
    whole -= AUXILIARY_PRIME * (whole > AUXILIARY_PRIME // 2)
    taken = np.take_along_axis(whole, positions, 1).astype(np.uint32)
    return ((b_words << lost) - taken) >> lost


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
