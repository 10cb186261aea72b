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
from hansa.base.lazy import Lazy
from hansa.infer.private.rlwe import ntt, real
from hansa.infer.private.rlwe.draws import MOST_FLOODING, SEED_BYTES, Draws, padded_thresholds
from hansa.infer.private.rlwe.keys import PublicKey, SecretKey, auxiliary, mask, masks, raw_masks
from hansa.infer.private.rlwe.profiles import AUXILIARY_PRIME, WIDE_PRIME, Profile
from hansa.infer.private.rlwe.residues import (
    WORD_BITS,
    add,
    check_plain_bits,
    known_of,
    lift,
    multiply_add,
    pack_residues,
    product_add,
    scale_arguments,
    scaled,
    switch,
    unpack_residues,
)
from hansa.infer.private.rlwe.spreading import spread

__all__ = [
    "Sealed", "add", "decrypt", "encrypt", "masks", "multiply_add", "pack_residues", "phase",
    "rerandomise", "scaled", "switch", "to_ntt", "unpack_residues",
]  # fmt: skip

kernels = Lazy("hansa.infer.private.rlwe.whole_kernels")

TOGETHER = 4
"""Polynomials that a thread works on between two meetings with the interpreter; part of what
randomness means, so that the number of threads is not."""


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
    k, n = messages.shape
    b_ntt = np.empty((k, profile.levels, n), np.uint64)
    messages = np.ascontiguousarray(messages, np.int64)
    known, (there, _) = known_of(profile), ntt.arguments(profile)
    seal = kernels.seal_real if real.suits(profile.primes) else kernels.seal_words
    levels, scaling = padded_thresholds(profile.sigma), scale_arguments(profile, plain_bits)
    primes = np.array(profile.primes, np.uint64)

    def work(now: slice) -> None:
        count = now.stop - now.start
        words = Draws(secrets, str(now.start)).words(count * n).reshape(count, n)
        raw, spare = raw_masks(profile, mask_seed, now)
        given = messages[now], words, levels
        rest = primes, secret.values, b_ntt[now], known, there, *scaling
        if seal(*given, raw, spare, *rest):  # by chance of 2^-80: more rejected than spare
            ready = [mask(profile, mask_seed, one) for one in range(now.start, now.stop)]
            seal(*given, np.concatenate(ready), spare, *rest)

    spread(work, k, threads, TOGETHER)
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
    if not 0 <= flooding_bits <= MOST_FLOODING:
        raise ConfigError("flooding_bits", flooding_bits, f"flooding has 0 to {MOST_FLOODING} bits")
    profile, secrets = public.profile, draws.bytes(SEED_BYTES)
    a, b = np.empty_like(a_ntt), np.empty_like(b_ntt)
    known, (there, back) = known_of(profile), ntt.arguments(profile)
    hide = kernels.hide_real if real.suits(profile.primes) else kernels.hide_words
    keys = public.a_ntt, public.b_ntt
    levels = padded_thresholds(profile.sigma)

    def work(now: slice) -> None:
        own, halves = Draws(secrets, str(now.start)), (a_ntt[now], b_ntt[now], a[now], b[now])
        mixers = own.ternary(profile, len(a[now]))
        words = own.words(4 * mixers.size).reshape(-1, 4, profile.n)
        hide(mixers, words, levels, flooding_bits, *keys, *halves, known, there, back)

    spread(work, len(a), threads, TOGETHER)
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
        a_words: uint32 [k, N], rounded by :func:`switch`; uint64 of more than 32 bits.
        b_words: the same [k, P], the coefficients at ``positions``.
        positions: int64 [k, P].
        bits: what they were rounded to.

    Returns:
        [k, P], of the same type.

    Raises:
        ConfigError: shapes that do not fit, or positions outside a polynomial.
    """
    _check_size(secret.profile, a_words, "a_words")
    if positions.shape != b_words.shape or len(positions) != len(a_words):
        raise ConfigError("positions", positions.shape, f"do not fit {b_words.shape} coefficients")
    if positions.size and not 0 <= positions.min() <= positions.max() < secret.profile.n:
        raise ConfigError("positions", None, f"lie outside 0 to {secret.profile.n - 1}")
    if bits > WORD_BITS:
        return _wide_phase(secret, a_words, b_words, positions, bits, threads)
    ring, lost = auxiliary(secret.profile), np.uint32(WORD_BITS - bits)
    out = np.empty(b_words.shape, np.uint32)
    known, (there, back) = known_of(ring), ntt.arguments(ring)
    undo = kernels.open_real if real.suits(ring.primes) else kernels.open_words
    given = [np.ascontiguousarray(x) for x in (a_words, b_words, positions)]

    def work(now: slice) -> None:
        halves = (one[now] for one in given)
        undo(
            *halves,
            lost,
            secret.auxiliary_values,
            out[now],
            known,
            there,
            back,
            np.uint64(AUXILIARY_PRIME),
        )

    spread(work, len(out), threads, TOGETHER)
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
    if bits > WORD_BITS:
        high = np.uint64(64 - bits)
        wide = phase(secret, a_words, b_words, positions, bits, threads) << high
        wide += np.uint64(1 << (63 - plain_bits))
        return wide.view(np.int64) >> np.int64(64 - plain_bits)
    lost = np.uint32(WORD_BITS - bits)
    words = phase(secret, a_words, b_words, positions, bits, threads) << lost
    rounded = words + np.uint32(1 << (WORD_BITS - 1 - plain_bits))
    return (rounded.view(np.int32) >> np.int32(WORD_BITS - plain_bits)).astype(np.int64)


def _wide_phase(
    secret: SecretKey,
    a_words: np.ndarray,
    b_words: np.ndarray,
    positions: np.ndarray,
    bits: int,
    threads: int,
) -> np.ndarray:
    """:func:`phase` of uint64 words, modulo a wider prime: rarely needed, a step at a time."""
    ring, high = Profile("wide", secret.profile.n, (WIDE_PRIME,)), np.uint64(64 - bits)
    key = ntt.forward(ring, lift(ring, secret.coefficients))
    centred = (a_words << high).view(np.int64) >> np.int64(64 - bits)
    values = ntt.forward(ring, lift(ring, centred), threads)
    whole = product_add(ring, key, values, np.zeros_like(values))
    found = ntt.inverse(ring, whole, threads)[:, 0].view(np.int64)
    found -= WIDE_PRIME * (found > WIDE_PRIME // 2)
    taken = np.take_along_axis(found, positions, 1).view(np.uint64)
    return (b_words - taken) & np.uint64((1 << bits) - 1)


def _check_size(profile: Profile, numbers: np.ndarray, name: str) -> None:
    if numbers.ndim != 2 or numbers.shape[1] != profile.n:
        raise ConfigError(name, numbers.shape, f"polynomials here have {profile.n} coefficients")
