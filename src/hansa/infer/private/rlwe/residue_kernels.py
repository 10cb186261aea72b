"""Compiled arithmetic of residues, coefficient by coefficient (see ``residues.py``).

Every word that goes in is below its prime, or any word where it says so. ``constants`` [L, 5] are
the prime, floor(2^64 / prime), 2^64 mod prime with its Shoup quotient, and 2^128 mod prime.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hansa.infer.private.rlwe.wide_kernels import high, shoup

BLOCK = 512


@njit(cache=True, nogil=True, inline="always")
def _less(x, bound):  # type: ignore[no-untyped-def]  # pragma: no cover
    return min(x, x - bound)


@njit(cache=True, nogil=True, inline="always")
def _mod(x, c):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Any word modulo the prime (Barrett)."""
    return _less(x - high(x, c[1]) * c[0], c[0])


@njit(cache=True, nogil=True, inline="always")
def _wide(low, up, c):  # type: ignore[no-untyped-def]  # pragma: no cover
    """up·2^64 + low modulo the prime, of any two words."""
    rest = low - high(low, c[1]) * c[0] + shoup(up, c[2], c[3], c[0])
    return _less(_less(rest, c[0] + c[0]), c[0])


@njit(cache=True, nogil=True)
def multiply_add(a, b, weights, sum_a, sum_b, constants, most):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Sums over inputs of weight · ciphertext, both halves; reduced after ``most`` products."""
    outs, ins, levels, n = weights.shape
    low_a, up_a = np.zeros(BLOCK, np.uint64), np.zeros(BLOCK, np.uint64)
    low_b, up_b = np.zeros(BLOCK, np.uint64), np.zeros(BLOCK, np.uint64)
    none = np.uint64(0)
    for out in range(outs):
        for layer in range(levels):
            c = constants[layer]
            for start in range(0, n, BLOCK):
                stop = min(start + BLOCK, n)
                low_a[:], up_a[:], low_b[:], up_b[:] = none, none, none, none
                for term in range(ins):
                    w = weights[out, term, layer, start:stop]
                    x, y = a[term, layer, start:stop], b[term, layer, start:stop]
                    for j in range(w.size):
                        product = x[j] * w[j]
                        total = low_a[j] + product
                        up_a[j] += high(x[j], w[j]) + np.uint64(total < product)
                        low_a[j] = total
                    for j in range(w.size):
                        product = y[j] * w[j]
                        total = low_b[j] + product
                        up_b[j] += high(y[j], w[j]) + np.uint64(total < product)
                        low_b[j] = total
                    if term % most == most - 1:
                        for j in range(w.size):
                            low_a[j], up_a[j] = _wide(low_a[j], up_a[j], c), none
                            low_b[j], up_b[j] = _wide(low_b[j], up_b[j], c), none
                for j in range(stop - start):
                    sum_a[out, layer, start + j] = _wide(low_a[j], up_a[j], c)
                    sum_b[out, layer, start + j] = _wide(low_b[j], up_b[j], c)


@njit(cache=True, nogil=True)
def product_add(x, y, z, out, constants):  # type: ignore[no-untyped-def]  # pragma: no cover
    """x·y + z, pointwise; x is [1 or k, L, N]."""
    several = x.shape[0] > 1
    for k in range(y.shape[0]):
        for layer in range(y.shape[1]):
            c = constants[layer]
            one, two, three = x[k if several else 0, layer], y[k, layer], z[k, layer]
            into = out[k, layer]
            for j in range(two.size):
                rest = _wide(one[j] * two[j], high(one[j], two[j]), c) + three[j]
                into[j] = _less(rest, c[0])


@njit(cache=True, nogil=True)
def add(x, y, constants):  # type: ignore[no-untyped-def]  # pragma: no cover
    """x += y."""
    for k in range(x.shape[0]):
        for layer in range(x.shape[1]):
            prime = constants[layer, 0]
            one, two = x[k, layer], y[k, layer]
            for j in range(one.size):
                one[j] = _less(one[j] + two[j], prime)


@njit(cache=True, nogil=True)
def lift(numbers, out, constants):  # type: ignore[no-untyped-def]  # pragma: no cover
    """out += residues of signed integers [k, n]."""
    for k in range(out.shape[0]):
        for layer in range(out.shape[1]):
            c = constants[layer]
            into, values = out[k, layer], numbers[k]
            for j in range(values.size):
                value = np.int64(values[j])
                below = np.uint64(value >> np.int64(63))
                rest = _mod(np.uint64(value), c) + (below & (c[0] - c[2]))
                into[j] = _less(_less(rest, c[0]) + into[j], c[0])


@njit(cache=True, nogil=True)
def lift_wide(numbers, out, constants):  # type: ignore[no-untyped-def]  # pragma: no cover
    """out += residues of signed integers of two words [k, 2, n], low ones first."""
    for k in range(out.shape[0]):
        for layer in range(out.shape[1]):
            c = constants[layer]
            into = out[k, layer]
            for j in range(into.size):
                low, up = numbers[k, 0, j], numbers[k, 1, j]
                below = np.uint64(np.int64(up) >> np.int64(63))
                rest = _wide(low, up, c) + (below & (c[0] - c[4]))
                into[j] = _less(_less(rest, c[0]) + into[j], c[0])


@njit(cache=True, nogil=True)
def scale(messages, out, constants, modulus, bits, inverses):  # type: ignore[no-untyped-def]  # pragma: no cover
    """out += round(q·m / 2^bits), modulus = q mod 2^bits; inverses [L, 2] are of 2^bits."""
    half = np.uint64(1) << np.uint64(bits - 1)
    mask = (half << np.uint64(1)) - np.uint64(1)
    for k in range(out.shape[0]):
        for layer in range(out.shape[1]):
            c = constants[layer]
            factor, quotient = inverses[layer, 0], inverses[layer, 1]
            into, values = out[k, layer], messages[k]
            for j in range(values.size):
                # (q·m + t/2 - r) / t with r what is left of it modulo t; q is zero modulo p
                rest = (modulus * np.uint64(values[j]) + half) & mask
                value = shoup(_mod(half, c) + c[0] - _mod(rest, c), factor, quotient, c[0])
                into[j] = _less(_less(value, c[0]) + into[j], c[0])


@njit(cache=True, nogil=True)
def switch(x, out, constants, crt, bits):  # type: ignore[no-untyped-def]  # pragma: no cover
    """round(x·2^bits / q) mod 2^bits: the fractions of the residues [k, L, n], added.

    crt [L, 4]: (q / p)^-1 mod p with its quotient, 2^64 / p whole and its fraction in 2^-64.
    """
    drop = np.uint64(64 - bits)
    half = np.uint64(1) << np.uint64(63 - bits)
    for k in range(x.shape[0]):
        for j in range(x.shape[2]):
            total = half
            for layer in range(x.shape[1]):
                c, prime = crt[layer], constants[layer, 0]
                part = _less(shoup(x[k, layer, j], c[0], c[1], prime), prime)
                total += part * c[2] + high(part, c[3])
            out[k, j] = total >> drop


@njit(cache=True, nogil=True)
def phases(products, positions, body, prime, lost, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """body - product at positions [P] modulo 2^(32 - lost), of residues [N] of a small product."""
    for j in range(positions.size):
        value = products[positions[j]]
        value -= prime * np.uint64(value > prime >> np.uint64(1))
        out[j] = ((body[j] << lost) - np.uint32(value)) >> lost


@njit(cache=True, nogil=True)
def pack(values, bits, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Numbers of ``bits`` bits end to end in words, the lowest bit first."""
    held, have, at = np.uint64(0), 0, 0
    for i in range(values.size):
        value = np.uint64(values[i])
        held |= value << np.uint64(have)
        have += bits
        if have >= 64:
            out[at] = held
            have, at = have - 64, at + 1
            held = value >> np.uint64(bits - have)
    if have:
        out[at] = held


@njit(cache=True, nogil=True)
def unpack(words, bits, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The numbers that were packed; one word of any value stands behind the last."""
    mask = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    for i in range(out.size):
        start = i * bits
        at, skip = start >> 6, np.uint64(start & 63)
        rest = (words[at + 1] << np.uint64(1)) << (np.uint64(63) - skip)
        out[i] = ((words[at] >> skip) | rest) & mask
