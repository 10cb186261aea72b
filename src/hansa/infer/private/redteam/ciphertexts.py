"""A lying client's half of the lattice: chosen errors in, and everything out of a reply."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from hansa.infer.private.rlwe import ntt
from hansa.infer.private.rlwe.ciphers import masks
from hansa.infer.private.rlwe.draws import SEED_BYTES, Draws
from hansa.infer.private.rlwe.keys import SecretKey
from hansa.infer.private.rlwe.profiles import Profile
from hansa.infer.private.rlwe.residues import WORD_BITS, product_add, scaled


@dataclass(frozen=True, eq=False)
class Upload:
    """Ciphertexts with all that their maker knows of them.

    Attributes:
        mask_seed: what their masks are made of.
        b_ntt: uint64 [k, L, N].
        errors: float64 [k, N], what a ciphertext holds beside q·m / t, the rounding of that too.
    """

    mask_seed: bytes
    b_ntt: np.ndarray
    errors: np.ndarray


def seal(
    secret: SecretKey,
    messages: np.ndarray,
    plain_bits: int,
    draws: Draws,
    noise: np.ndarray | None = None,
    height: int = 1,
) -> Upload:
    """Ciphertexts of messages int64 [k, N], with chosen errors or honest ones.

    Args:
        noise: int64 [k, N], errors in units of ``height``.
    """
    profile = secret.profile
    mask_seed = draws.bytes(SEED_BYTES)
    body = scaled(profile, messages, plain_bits)
    if noise is None:
        drawn = draws.gaussian(profile, len(messages)).astype(object)
    else:
        drawn = noise.astype(object) * height
    for level, prime in enumerate(profile.primes):
        own = (body[:, level].astype(object) + drawn) % prime
        body[:, level] = own.astype(np.uint64)
    a_ntt = masks(profile, mask_seed, len(messages))
    b_ntt = product_add(profile, secret.values, a_ntt, ntt.forward(profile, body))
    errors = drawn.astype(float) + _rounding(profile, messages, plain_bits)
    return Upload(mask_seed, b_ntt, errors)


def mask_coefficients(profile: Profile, mask_seed: bytes, k: int) -> np.ndarray:
    """uint64 [k, N]: the masks modulo the first prime, as coefficients."""
    return ntt.inverse(profile, masks(profile, mask_seed, k))[:, 0]


def bare_phase(secret: SecretKey, a: np.ndarray, b: np.ndarray, where: np.ndarray) -> np.ndarray:
    """b - a·s modulo q, centred, of [k, L, N] at coefficients [P]: integers as objects [k, P]."""
    profile = secret.profile
    values = ntt.forward(profile, a.copy())
    product = product_add(profile, secret.values, values, np.zeros_like(values))
    product = ntt.inverse(profile, product)[:, :, where].astype(object)
    rests = [
        (b[:, k, where].astype(object) - product[:, k]) % prime
        for k, prime in enumerate(profile.primes)
    ]
    return centred(profile, rests)


def centred(profile: Profile, rests: list[np.ndarray]) -> np.ndarray:
    """The integers nearest to zero of residues modulo each prime (Chinese remainders)."""
    q = profile.q
    parts = [
        rest * (q // prime * pow(q // prime, -1, prime))
        for rest, prime in zip(rests, profile.primes, strict=True)
    ]
    whole = reduce(lambda x, y: x + y, parts) % q
    return np.where(whole > q // 2, whole - q, whole)


def decode(profile: Profile, phase: np.ndarray, plain_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """(messages int64, residuals float64) of phases modulo q, centred integers as objects."""
    t, q = 1 << plain_bits, profile.q
    messages = (2 * phase * t + q) // (2 * q)
    residuals = (phase * t - messages * q).astype(float) / t
    wrapped = (messages + t // 2) % t - t // 2
    return wrapped.astype(np.int64), residuals


def decode_words(
    profile: Profile, words: np.ndarray, plain_bits: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same of phases that were rounded to words, uint32."""
    step = 1 << (WORD_BITS - plain_bits)
    signed = words.view(np.int32).astype(np.int64)
    messages = (signed + step // 2) // step
    residuals = (signed - messages * step) * (profile.q / 2.0**WORD_BITS)
    half = 1 << (plain_bits - 1)
    return (messages + half) % (2 * half) - half, residuals


def shifted(polys: np.ndarray, power: int, modulus: int = 0) -> np.ndarray:
    """Polynomials [k, N] times X^power modulo X^N + 1 (and a modulus)."""
    rolled = np.roll(polys, power, -1)
    if power:
        head = rolled[..., :power]
        rolled[..., :power] = np.where(head == 0, head, modulus - head) if modulus else -head
    return rolled


def _rounding(profile: Profile, messages: np.ndarray, plain_bits: int) -> np.ndarray:
    """float64: round(q·m / t) - q·m / t."""
    t = 1 << plain_bits
    rest = (messages * (profile.q % t)) % t
    return np.where(rest >= t // 2, t - rest, -rest) / t
