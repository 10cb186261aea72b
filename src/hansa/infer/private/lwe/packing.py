"""Packing rows into one ring ciphertext by a tree (Chen, Dai, Kim, Song, 2021, algorithm 2).

Two ciphertexts that hold messages at multiples of N / 2^(h-1) become one that holds them at
multiples of N / 2^h: even + X^k·odd plus the turn of even - X^k·odd. Each level doubles messages,
which is taken back beforehand by an inverse modulo q, so that a row's own noise stays as it was;
each level adds the noise of a switch of keys.

What packing adds depends on masks, which depend on weights, and on errors of the client's own
keys: it is part of the residual that flooding has to drown (``packing_bound``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy
from hansa.infer.private.lwe.rows import Rows, combine_ciphers, monomial
from hansa.infer.private.lwe.switch_keys import (
    SwitchKeys,
    digit_bits,
    digit_count,
    switch_bound,
)
from hansa.infer.private.rlwe import ntt
from hansa.infer.private.rlwe.profiles import Profile
from hansa.infer.private.rlwe.residues import multiply_add, product_add
from hansa.infer.private.rlwe.spreading import spread

kernels = Lazy("hansa.infer.private.lwe.row_kernels")


def levels_of(count: int) -> int:
    """Levels of the tree that packs so many rows."""
    return max(count - 1, 0).bit_length()


def positions(profile: Profile, count: int) -> np.ndarray:
    """int64 [count]: the coefficients at which packed rows stand, in their order."""
    return np.arange(count) * (profile.n >> levels_of(count))


def packing_bound(profile: Profile, count: int) -> int:
    """Of what packing so many rows adds to the noise of any of them, always."""
    return ((1 << levels_of(count)) - 1) * switch_bound(profile)


def pack(keys: SwitchKeys, rows: Rows, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """One ciphertext of up to N rows, at :func:`positions`; other coefficients mean nothing.

    Returns:
        Both halves in the NTT domain, uint64 [1, L, N].
    """
    scale = _scale(keys.profile, len(rows))
    none = np.zeros_like(scale)

    def leaf(row: int) -> np.ndarray:
        made = np.empty((2, *scale.shape[1:]), np.uint64)
        made[0] = rows.masks_ntt[row]
        made[1] = rows.bodies[row][:, None]
        return product_add(keys.profile, scale, made, np.concatenate([none, none]))

    return _pack(keys, len(rows), leaf, threads)


def combine_pack(
    keys: SwitchKeys,
    a_ntt: np.ndarray,
    b: np.ndarray,
    taps: np.ndarray,
    weights: np.ndarray,
    bias: np.ndarray | None = None,
    threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """``pack(keys, combine_ciphers(...))`` without holding the rows; arguments as there."""
    profile = keys.profile
    scale = _scale(profile, len(taps))
    none = np.zeros_like(scale)

    def leaf(row: int) -> np.ndarray:
        now = slice(row, row + 1)
        one = combine_ciphers(
            profile, a_ntt, b, taps[now], weights[now], None if bias is None else bias[now]
        )
        made = np.empty((2, *scale.shape[1:]), np.uint64)
        made[0] = one.masks_ntt[0]
        made[1] = one.bodies[0][:, None]
        return product_add(profile, scale, made, np.concatenate([none, none]))

    return _pack(keys, len(taps), leaf, threads)


def _scale(profile: Profile, count: int) -> np.ndarray:
    """1 / 2^levels modulo q, as values [1, L, N]."""
    made = np.empty((1, profile.levels, profile.n), np.uint64)
    for layer, prime in enumerate(profile.primes):
        made[0, layer] = pow(1 << levels_of(count), -1, prime)
    return made


def _pack(
    keys: SwitchKeys, count: int, leaf: Callable[[int], np.ndarray], threads: int
) -> tuple[np.ndarray, np.ndarray]:
    levels, n = levels_of(count), keys.profile.n
    if not 1 <= count <= n:
        raise ConfigError("rows", count, f"a ciphertext holds 1 to {n} rows")
    if levels > keys.levels:
        raise ConfigError("rows", count, f"these keys pack up to {1 << keys.levels} rows")

    def tree(first: int, level: int) -> np.ndarray | None:
        """The rows first, first + 2^(levels - level), ... as one ciphertext [2, L, N]."""
        if first >= count:
            return None
        if level == 0:
            return leaf(first)
        even = tree(first, level - 1)
        odd = tree(first + (1 << (levels - level)), level - 1)
        assert even is not None
        return merge(keys, even, odd, level)

    apart = min(levels, (threads - 1).bit_length())
    done: list[np.ndarray | None] = [None] * (1 << apart)

    def work(part: slice) -> None:
        for one in range(part.start, part.stop):
            done[one] = tree(one, levels - apart)

    spread(work, 1 << apart, threads)
    for level in range(levels - apart + 1, levels + 1):
        half = len(done) // 2
        done = [
            None if even is None else merge(keys, even, odd, level)
            for even, odd in zip(done[:half], done[half:], strict=True)
        ]
    packed = done[0]
    assert packed is not None
    return packed[:1], packed[1:]


def merge(keys: SwitchKeys, even: np.ndarray, odd: np.ndarray | None, level: int) -> np.ndarray:
    """One step of the tree, on ciphertexts uint64 [2, L, N] in the NTT domain."""
    profile = keys.profile
    if odd is None:
        plus, minus = even.copy(), even
    else:
        shift = profile.n >> level
        plus = product_add(profile, monomial(profile, shift), odd, even)
        minus = product_add(profile, monomial(profile, shift + profile.n), odd, even)
    other = np.empty_like(minus)
    kernels.turn(minus, _turn(profile.n, (1 << level) + 1), other)
    primes = np.array(profile.primes, np.uint64)
    mask = ntt.inverse(profile, other[:1].copy())[0]
    parts = profile.levels * digit_count(profile)
    digits = np.empty((parts, profile.levels, profile.n), np.uint64)
    kernels.digits(mask, primes, digit_bits(profile), digits)
    ntt.forward(profile, digits)
    sum_a, sum_b = multiply_add(profile, keys.a_ntt[level - 1], keys.b_ntt[level - 1], digits[None])
    kernels.close(plus, other[1], sum_a[0], sum_b[0], primes)
    return plus


@cache
def _turn(n: int, power: int) -> np.ndarray:
    """int64 [N]: where the values of f(X^power) stand among those of f."""
    order = ntt.bit_reversal(n)
    place = np.empty(2 * n, np.int64)
    place[2 * order + 1] = np.arange(n)
    return place[(2 * order + 1) * power % (2 * n)]
