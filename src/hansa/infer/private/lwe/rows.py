"""Rows of learning with errors: taking them out of ring ciphertexts and combining them.

A row of a message is (a, b) with b = <a, s> + e + round(q·m / t). It is kept as a ring ciphertext
of which only the constant coefficient is meant: the polynomial of the mask in the NTT domain, and
one coefficient b. Taking coefficient i out is then a product by X^-i, and nothing is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy
from hansa.infer.private.rlwe import ntt
from hansa.infer.private.rlwe.profiles import Profile
from hansa.infer.private.rlwe.residues import add, constants, lift, product_add, scaled
from hansa.infer.private.rlwe.spreading import spread

kernels = Lazy("hansa.infer.private.lwe.row_kernels")


@dataclass(frozen=True, eq=False)
class Rows:
    """R rows.

    Attributes:
        masks_ntt: uint64 [R, L, N].
        bodies: uint64 [R, L], coefficients.
    """

    masks_ntt: np.ndarray
    bodies: np.ndarray

    def __len__(self) -> int:
        return len(self.bodies)

    def at(self, order: np.ndarray) -> Rows:
        """The rows in another order: what a shuffle is."""
        return Rows(self.masks_ntt[order], self.bodies[order])


@cache
def monomial(profile: Profile, power: int) -> np.ndarray:
    """X^power, power modulo 2N, in the NTT domain, uint64 [1, L, N]."""
    power %= 2 * profile.n
    made = np.zeros((1, profile.n), np.int64)
    made[0, power % profile.n] = 1 if power < profile.n else -1
    return ntt.forward(profile, lift(profile, made))


def extract(profile: Profile, a_ntt: np.ndarray, b: np.ndarray, places: np.ndarray) -> Rows:
    """Coefficients as rows.

    Args:
        a_ntt: uint64 [k, L, N], masks in the NTT domain.
        b: uint64 [k, L, N], the other halves as coefficients.
        places: int64 [R] in [0, k·N): ciphertext and coefficient.
    """
    check_places(places, len(a_ntt) * profile.n)
    masks = np.empty((len(places), *a_ntt.shape[1:]), np.uint64)
    for row, place in enumerate(places):
        one, at = divmod(int(place), profile.n)
        turned = monomial(profile, 2 * profile.n - at)
        none = np.zeros_like(turned)
        product_add(profile, turned, a_ntt[one : one + 1], none, masks[row : row + 1])
    return Rows(masks, b[places // profile.n, :, places % profile.n])


def combine(
    profile: Profile,
    rows: Rows,
    taps: np.ndarray,
    weights: np.ndarray,
    bias: np.ndarray | None = None,
    threads: int = 1,
) -> Rows:
    """An integer matrix times the rows, as the paper has it.

    Args:
        taps: int64 [outs, T], rows.
        weights: int64 [outs, T], of each tap.
        bias: uint64 [outs, L], added to the bodies; of :func:`biases`.
    """
    check_places(taps, len(rows))
    own = constants(profile.primes)
    masks = np.empty((len(taps), profile.levels, profile.n), np.uint64)
    bodies = np.empty((len(taps), profile.levels), np.uint64)

    def work(part: slice) -> None:
        kernels.combine(
            rows.masks_ntt,
            rows.bodies,
            taps[part],
            weights[part],
            masks[part],
            bodies[part],
            own.primes,
            own.most,
        )

    spread(work, len(taps), threads)
    return Rows(masks, bodies if bias is None else _plus(profile, bodies, bias))


def combine_ciphers(
    profile: Profile,
    a_ntt: np.ndarray,
    b: np.ndarray,
    taps: np.ndarray,
    weights: np.ndarray,
    bias: np.ndarray | None = None,
) -> Rows:
    """What :func:`combine` makes of all coefficients as rows, bit for bit, by products of rings.

    A sum over coefficients of one ciphertext is the constant coefficient of its product by the
    weights backwards: no row of an input is ever held.

    Args:
        a_ntt, b: of the ciphertexts, as for :func:`extract`.
        taps: int64 [outs, T], places in [0, k·N).
    """
    check_places(taps, len(a_ntt) * profile.n)
    masks = np.empty((len(taps), profile.levels, profile.n), np.uint64)
    bodies = np.empty((len(taps), profile.levels), np.uint64)
    own = constants(profile.primes).primes
    polys = np.empty((len(a_ntt), profile.n), np.int64)
    for one in range(len(taps)):
        used = np.unique(taps[one] // profile.n)
        kernels.backwards(taps[one], weights[one], polys)
        values = ntt.forward(profile, lift(profile, polys[used]))
        given = a_ntt[used]
        total = np.zeros((1, profile.levels, profile.n), np.uint64)
        for k in range(len(used)):
            total = product_add(profile, values[k : k + 1], given[k : k + 1], total)
        masks[one] = total[0]
        kernels.sum_bodies(b, taps[one], weights[one], own, bodies[one])
    return Rows(masks, bodies if bias is None else _plus(profile, bodies, bias))


def check_places(places: np.ndarray, count: int) -> None:
    """Places int64 among ``count`` rows or coefficients.

    Raises:
        ConfigError: some lie outside.
    """
    if places.size and not 0 <= places.min() <= places.max() < count:
        raise ConfigError("taps", None, f"lie outside 0 to {count - 1}")


def biases(profile: Profile, messages: np.ndarray, plain_bits: int) -> np.ndarray:
    """What adds integers int64 [outs] to rows, uint64 [outs, L]."""
    return np.ascontiguousarray(scaled(profile, messages.reshape(-1, 1), plain_bits)[:, :, 0])


def _plus(profile: Profile, bodies: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return add(profile, bodies[:, :, None].copy(), bias[:, :, None])[:, :, 0]
