"""Polynomials modulo X^N + 1 as their values at the roots, in which products are pointwise.

The transform is bit for bit SEAL's (Laine et al., Microsoft Research): the smallest primitive
2N-th root, values in bit-reversed order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from hansa.base.lazy import Lazy
from hansa.infer.private.rlwe import real
from hansa.infer.private.rlwe.profiles import Profile
from hansa.infer.private.rlwe.spreading import spread

kernels = Lazy("hansa.infer.private.rlwe.ntt_kernels")
real_kernels = Lazy("hansa.infer.private.rlwe.real_kernels")


@dataclass(frozen=True, eq=False)
class Tables:
    """What the transforms of N coefficients by some primes look up, all uint64.

    Attributes:
        primes: [L].
        roots, quotients: [L, N], powers of the root in bit-reversed order, for Shoup's products.
        back, back_quotients: [L, N], their inverses.
        scales: [L, 2], 1 / N and its quotient.
    """

    primes: np.ndarray
    roots: np.ndarray
    quotients: np.ndarray
    back: np.ndarray
    back_quotients: np.ndarray
    scales: np.ndarray


@cache
def tables(n: int, primes: tuple[int, ...]) -> Tables:
    """The tables of a ring, computed once."""
    order = bit_reversal(n)
    roots, back, scales = [], [], []
    for prime in primes:
        root = smallest_root(n, prime)
        roots.append(_powers(root, n, prime)[order])
        back.append(_powers(pow(root, -1, prime), n, prime)[order])
        scales.append([pow(n, -1, prime)])
    quotients = [_quotients(rows, prime) for rows, prime in zip(roots, primes, strict=True)]
    back_quotients = [_quotients(rows, prime) for rows, prime in zip(back, primes, strict=True)]
    both = [
        [one[0], _quotients(np.array(one, object), prime)[0]]
        for one, prime in zip(scales, primes, strict=True)
    ]
    made = [
        np.array(part, dtype=np.uint64)
        for part in (primes, roots, quotients, back, back_quotients, both)
    ]
    for array in made:
        array.flags.writeable = False
    return Tables(*made)


@cache
def _real_tables(n: int, primes: tuple[int, ...]) -> tuple[real.Ratios, real.Ratios, np.ndarray]:
    """Roots, their inverses, and 1 / n with its ratio [L, 2], all float64."""
    own = tables(n, primes)
    scales = [real.centred(pow(n, -1, prime), prime) for prime in primes]
    both = np.array([[scale, scale / prime] for scale, prime in zip(scales, primes, strict=True)])
    return real.ratios(own.roots, primes), real.ratios(own.back, primes), both


def bit_reversal(n: int) -> np.ndarray:
    """int64 [n]: each index with its bits in the opposite order."""
    order = np.zeros(1, np.int64)
    while len(order) < n:
        order = np.concatenate([2 * order, 2 * order + 1])
    return order


def smallest_root(n: int, prime: int) -> int:
    """The least of the primitive 2n-th roots of one modulo a prime that is 1 modulo 2n."""
    base = 2
    while pow(pow(base, (prime - 1) // (2 * n), prime), n, prime) != prime - 1:
        base += 1
    root = pow(base, (prime - 1) // (2 * n), prime)
    square, least = root * root % prime, root
    for _ in range(n):
        root = root * square % prime
        least = min(least, root)
    return least


def _powers(root: int, n: int, prime: int) -> np.ndarray:
    powers, power = np.empty(n, object), 1
    for k in range(n):
        powers[k] = power
        power = power * root % prime
    return powers


def _quotients(factors: np.ndarray, prime: int) -> np.ndarray:
    """floor(factor · 2^64 / prime) of each."""
    return (factors << 64) // prime


def arguments(profile: Profile) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """What the kernels take behind the polynomials, there and back; of float64 if that suits."""
    own = tables(profile.n, profile.primes)
    if not real.suits(profile.primes):
        there = (own.primes, own.roots, own.quotients)
        return there, (own.primes, own.back, own.back_quotients, own.scales)
    roots, inverses, scales = _real_tables(profile.n, profile.primes)
    known = real.constants(profile.primes)
    return (known, roots.factors, roots.ratios, roots.last, roots.last_ratios), (
        known, inverses.factors, inverses.ratios, inverses.last, inverses.last_ratios, scales,
    )  # fmt: skip


def forward(profile: Profile, polys: np.ndarray, threads: int = 1) -> np.ndarray:
    """In place: uint64 [k, L, N], canonical residues of coefficients to canonical values."""
    (there, _), chosen = arguments(profile), _kernels(profile)
    spread(lambda part: chosen.forward(polys[part], *there), len(polys), threads)
    return polys


def inverse(profile: Profile, polys: np.ndarray, threads: int = 1) -> np.ndarray:
    """In place: uint64 [k, L, N], canonical values to canonical residues of coefficients."""
    (_, back), chosen = arguments(profile), _kernels(profile)
    spread(lambda part: chosen.inverse(polys[part], *back), len(polys), threads)
    return polys


def _kernels(profile: Profile) -> Lazy:
    return real_kernels if real.suits(profile.primes) else kernels
