"""Compiled loops over rows of learning with errors (see ``rows.py`` and ``packing.py``)."""

from __future__ import annotations

import numpy as np
from numba import njit

from hansa.infer.private.rlwe.wide_kernels import high, shoup


@njit(cache=True, nogil=True, inline="always")
def _wide(low, up, c):  # type: ignore[no-untyped-def]  # pragma: no cover
    rest = low - high(low, c[1]) * c[0] + shoup(up, c[2], c[3], c[0])
    rest = min(rest, rest - (c[0] + c[0]))
    return min(rest, rest - c[0])


@njit(cache=True, nogil=True)
def combine(masks, bodies, taps, weights, out, out_bodies, constants, most):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Sums over taps of weight · row; rows [R, L, N] and [R, L], taps and weights [outs, T].

    Constants are those of ``residue_kernels``.
    """
    outs, count = taps.shape
    levels, n = masks.shape[1], masks.shape[2]
    low, up = np.zeros(n + 1, np.uint64), np.zeros(n + 1, np.uint64)
    none = np.uint64(0)
    for one in range(outs):
        for layer in range(levels):
            c = constants[layer]
            low[:], up[:] = none, none
            for term in range(count):
                row = taps[one, term]
                signed = weights[one, term] % np.int64(c[0])
                weight = np.uint64(signed)
                mask = masks[row, layer]
                for j in range(n):
                    product = mask[j] * weight
                    total = low[j] + product
                    up[j] += high(mask[j], weight) + np.uint64(total < product)
                    low[j] = total
                body = bodies[row, layer]
                product = body * weight
                total = low[n] + product
                up[n] += high(body, weight) + np.uint64(total < product)
                low[n] = total
                if term % most == most - 1:
                    for j in range(n + 1):
                        low[j], up[j] = _wide(low[j], up[j], c), none
            for j in range(n):
                out[one, layer, j] = _wide(low[j], up[j], c)
            out_bodies[one, layer] = _wide(low[n], up[n], c)


@njit(cache=True, nogil=True)
def sum_bodies(bodies, taps, weights, constants, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Sums over taps [T] of weight · coefficient, of coefficients [k, L, N]; out [L]."""
    n = bodies.shape[2]
    for layer in range(bodies.shape[1]):
        c = constants[layer]
        total = np.uint64(0)
        for term in range(taps.size):
            body = bodies[taps[term] // n, layer, taps[term] % n]
            weight = np.uint64(weights[term] % np.int64(c[0]))
            rest = _wide(body * weight, high(body, weight), c) + total
            total = min(rest, rest - c[0])
        out[layer] = total


@njit(cache=True, nogil=True)
def backwards(taps, weights, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Polynomials int64 [k, N] whose products have the sum over taps as constant coefficient."""
    n = out.shape[1]
    out[:] = 0
    for term in range(taps.size):
        cipher, at = taps[term] // n, taps[term] % n
        if at:
            out[cipher, n - at] -= weights[term]
        else:
            out[cipher, 0] += weights[term]


@njit(cache=True, nogil=True)
def turn(values, order, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """out[..., j] = values[..., order[j]] of [k, L, N]."""
    for k in range(values.shape[0]):
        for layer in range(values.shape[1]):
            one, into = values[k, layer], out[k, layer]
            for j in range(order.size):
                into[j] = one[order[j]]


@njit(cache=True, nogil=True)
def digits(residues, primes, bits, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Residues [L, N], near zero, in signed digits, each as residues: out [L·D, L, N]."""
    levels, n = residues.shape
    count = out.shape[0] // levels
    half, mask = np.int64(1) << np.int64(bits - 1), (np.int64(1) << np.int64(bits)) - np.int64(1)
    rest = np.empty(n, np.int64)
    for source in range(levels):
        prime, row = np.int64(primes[source]), residues[source]
        for j in range(n):
            value = np.int64(row[j])
            rest[j] = value - prime * np.int64(value > prime >> 1)
        for digit in range(count):
            last = digit == count - 1
            for layer in range(levels):
                into, modulus = out[source * count + digit, layer], np.int64(primes[layer])
                for j in range(n):
                    part = rest[j] if last else ((rest[j] + half) & mask) - half
                    into[j] = np.uint64(part + modulus * np.int64(part < 0))
            for j in range(n):
                rest[j] = (rest[j] + half) >> np.int64(bits)


@njit(cache=True, nogil=True)
def close(plus, turned, sum_a, sum_b, primes):  # type: ignore[no-untyped-def]  # pragma: no cover
    """plus [2, L, N] += (0, turned) - (sum_a, sum_b), all but the first [L, N]."""
    for layer in range(plus.shape[1]):
        prime = primes[layer]
        a, b = plus[0, layer], plus[1, layer]
        for j in range(a.size):
            rest = a[j] + prime - sum_a[layer, j]
            a[j] = min(rest, rest - prime)
            rest = b[j] + turned[layer, j]
            rest = min(rest, rest - prime) + prime - sum_b[layer, j]
            b[j] = min(rest, rest - prime)
