"""Polynomials as residues uint64 [k, L, N]: sums, products, rounding to a word, packed bytes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from hansa.base.errors import ConfigError, WireError
from hansa.base.lazy import Lazy
from hansa.infer.private.rlwe import real
from hansa.infer.private.rlwe.profiles import WIDE_PRIME, Profile
from hansa.infer.private.rlwe.spreading import spread

kernels = Lazy("hansa.infer.private.rlwe.residue_kernels")
real_kernels = Lazy("hansa.infer.private.rlwe.real_kernels")

WORD_BITS = 32
_WORD = 1 << 64


@dataclass(frozen=True, eq=False)
class Constants:
    """What the kernels know of some primes; see ``residue_kernels``.

    Attributes:
        primes: uint64 [L, 5].
        crt: uint64 [L, 4].
        most: products whose sum two words hold.
    """

    primes: np.ndarray
    crt: np.ndarray
    most: int


@cache
def constants(primes: tuple[int, ...]) -> Constants:
    """The constants of a modulus."""
    q, rows, crt = 1, [], []
    for prime in primes:
        q *= prime
    for prime in primes:
        rest = _WORD % prime
        rows.append([prime, _WORD // prime, rest, (rest << 64) // prime, _WORD**2 % prime])
        factor = pow(q // prime, -1, prime)
        crt.append([factor, (factor << 64) // prime, _WORD // prime, (rest << 64) // prime])
    most = min((1 << 128) // prime**2 for prime in primes) - 1
    return Constants(np.array(rows, np.uint64), np.array(crt, np.uint64), min(most, 1 << 30))


def known_of(profile: Profile) -> np.ndarray:
    """The constants that the kernels take: of float64 if that suits, or of words."""
    if real.suits(profile.primes):
        return real.constants(profile.primes)
    return constants(profile.primes).primes


def lift(profile: Profile, numbers: np.ndarray, onto: np.ndarray | None = None) -> np.ndarray:
    """Signed integers int8 or int64 [k, N] as residues [k, L, N], added to ``onto`` if given."""
    if onto is None:
        onto = np.zeros((len(numbers), profile.levels, numbers.shape[1]), np.uint64)
    if not real.suits(profile.primes):
        kernels.lift(numbers, onto, constants(profile.primes).primes)
    elif numbers.dtype == np.int8:
        real_kernels.lift_small(numbers, onto, real.constants(profile.primes))
    else:
        real_kernels.lift(numbers, onto, real.constants(profile.primes))
    return onto


def lift_wide(profile: Profile, numbers: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """``onto`` [k, L, n] and signed integers of two words, uint64 [k, 2, n], added in place."""
    chosen = real_kernels if real.suits(profile.primes) else kernels
    chosen.lift_wide(numbers, onto, known_of(profile))
    return onto


def scaled(
    profile: Profile, messages: np.ndarray, plain_bits: int, onto: np.ndarray | None = None
) -> np.ndarray:
    """round(q·m / 2^plain_bits) of integers int64 [k, n], as residues [k, L, n].

    Added to ``onto`` in place if given. What lies outside [-t/2, t/2) wraps modulo t, exactly:
    the rounding is of each number's own, so that multiples of t become multiples of q.
    """
    check_plain_bits(plain_bits)
    messages = np.ascontiguousarray(messages, np.int64)
    if onto is None:
        onto = np.zeros((len(messages), profile.levels, messages.shape[1]), np.uint64)
    scale = real_kernels.scale if real.suits(profile.primes) else kernels.scale
    scale(messages, onto, known_of(profile), *scale_arguments(profile, plain_bits))
    return onto


def scale_arguments(profile: Profile, plain_bits: int) -> tuple[object, int, np.ndarray]:
    """What the kernels of :func:`scaled` take: q mod t, the bits of t, and 1 / t twice."""
    return _scale_arguments(profile, plain_bits, real.suits(profile.primes))


@cache
def _scale_arguments(
    profile: Profile, plain_bits: int, floats: bool
) -> tuple[object, int, np.ndarray]:
    t = 1 << plain_bits
    inverses = [(pow(t, -1, prime), prime) for prime in profile.primes]
    if floats:
        signed = [(real.centred(one, prime), prime) for one, prime in inverses]
        pairs = np.array([[one, one / prime] for one, prime in signed], np.float64)
        return profile.q % t, plain_bits, pairs
    words = np.array([[one, (one << 64) // prime] for one, prime in inverses], np.uint64)
    return np.uint64(profile.q % t), plain_bits, words


def check_plain_bits(plain_bits: int) -> None:
    """The messages' bits, which have to fit into a word with room for noise.

    Raises:
        ConfigError: they do not.
    """
    if not 1 <= plain_bits <= WORD_BITS - 2:
        raise ConfigError(
            "plain_bits", plain_bits, "messages have 1 to 30 bits", "quantize to fewer bits"
        )


def add(profile: Profile, onto: np.ndarray, other: np.ndarray) -> np.ndarray:
    """onto += other, both [k, L, n] in the same domain; returns ``onto``."""
    kernels.add(onto, other, constants(profile.primes).primes)
    return onto


def product_add(
    profile: Profile, x: np.ndarray, y: np.ndarray, z: np.ndarray, out: np.ndarray | None = None
) -> np.ndarray:
    """x·y + z pointwise, of values [1 or k, L, N] and twice [k, L, N]."""
    if out is None:
        out = np.empty_like(y)
    chosen = real_kernels if real.suits(profile.primes) else kernels
    chosen.product_add(x, y, z, out, known_of(profile))
    return out


def multiply_add(
    profile: Profile,
    a_ntt: np.ndarray,
    b_ntt: np.ndarray,
    weights_ntt: np.ndarray,
    threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sums of ciphertexts: values [ins, L, N] twice, weights [outs, ins, L, N].

    Returns:
        Both halves of the sums, [outs, L, N].
    """
    outs, ins, levels, n = weights_ntt.shape
    if a_ntt.shape != (ins, levels, n) or b_ntt.shape != a_ntt.shape:
        raise ConfigError("weights_ntt", weights_ntt.shape, f"does not fit {a_ntt.shape}")
    own = constants(profile.primes)
    sum_a = np.empty((outs, levels, n), np.uint64)
    sum_b = np.empty_like(sum_a)

    def work(part: slice) -> None:
        halves = a_ntt, b_ntt, weights_ntt[part], sum_a[part], sum_b[part]
        if real.suits(profile.primes):
            real_kernels.multiply_add(*halves, real.constants(profile.primes))
        else:
            kernels.multiply_add(*halves, own.primes, own.most)

    spread(work, outs, threads)
    return sum_a, sum_b


def switch(profile: Profile, polys: np.ndarray, bits: int = WORD_BITS) -> np.ndarray:
    """round(x·2^bits / q) modulo 2^bits, [k, n] of coefficients [k, L, n].

    At most 1/2 + 2^-20 from the exact quotient.

    Returns:
        uint32, or uint64 where they have more than 32 bits.
    """
    if not 8 <= bits <= most_bits(profile):
        most = most_bits(profile)
        raise ConfigError("bits", bits, f"a ciphertext is rounded to 8 to {most} bits here")
    kind: type[np.unsignedinteger] = np.uint32 if bits <= WORD_BITS else np.uint64
    out, own = np.empty((len(polys), polys.shape[2]), kind), constants(profile.primes)
    kernels.switch(polys, out, own.primes, own.crt, bits)
    return out


def most_bits(profile: Profile) -> int:
    """Bits of the widest words that are multiplied by a secret modulo the wide prime."""
    return WIDE_PRIME.bit_length() - profile.n.bit_length()


def pack_numbers(numbers: np.ndarray, bits: int) -> bytes:
    """Numbers below 2^bits, any shape of unsigned integers, end to end in the fewest bytes."""
    flat = np.ascontiguousarray(numbers).reshape(-1)
    words = np.zeros(flat.size * bits // 64 + 1, np.uint64)
    kernels.pack(flat, bits, words)
    return words.astype("<u8", copy=False).tobytes()[: packed_bytes(flat.size, bits)]


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that so many numbers take."""
    return -(-count * bits // 8)


def unpack_numbers(data: bytes, count: int, bits: int) -> np.ndarray:
    """uint64 [count], 1 to 63 bits each, that :func:`pack_numbers` wrote.

    Raises:
        WireError: the length is another's, or the last byte has more than the last number.
    """
    if len(data) != packed_bytes(count, bits):
        raise WireError(
            f"{count} numbers of {bits} bits take {packed_bytes(count, bits)} bytes, "
            f"not {len(data)}"
        )
    words = np.frombuffer(data + bytes(16 - len(data) % 8), "<u8")
    out = np.empty(count, np.uint64)
    kernels.unpack(words, bits, out)
    if (used := count * bits % 8) and data[-1] >> used:
        raise WireError("bits behind the last number")
    return out


def pack_residues(profile: Profile, polys: np.ndarray) -> bytes:
    """Canonical residues [k, L, N] as bytes: each prime's bits, end to end."""
    return b"".join(
        pack_numbers(residues, bits)
        for poly in polys
        for residues, bits in zip(poly, profile.prime_bits, strict=True)
    )


def unpack_residues(profile: Profile, data: bytes, k: int) -> np.ndarray:
    """The residues [k, L, N] that :func:`pack_residues` wrote.

    Raises:
        WireError: the length is another's, or a residue is no smaller than its prime.
    """
    if len(data) != k * profile.polynomial_bytes:
        raise WireError(
            f"{k} polynomials of {profile.name} take {k * profile.polynomial_bytes} bytes, "
            f"not {len(data)}"
        )
    out = np.empty((k, profile.levels, profile.n), np.uint64)
    at = 0
    for poly in out:
        for layer, bits in enumerate(profile.prime_bits):
            size = packed_bytes(profile.n, bits)
            poly[layer] = unpack_numbers(data[at : at + size], profile.n, bits)
            at += size
    if (out >= np.array(profile.primes, np.uint64)[:, None]).any():
        raise WireError("a residue is not smaller than its prime")
    return out
