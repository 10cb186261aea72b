"""Compiled arithmetic modulo primes below 2^46 in float64, eight at a time (see ``real.py``).

Fused multiply-add gives both halves of a product exactly, and all numbers between are integers
below 2^53, so that nothing is ever rounded: the residues are bit for bit those of the integer
kernels, several times faster where a processor has no wide products of vectors of words.
``constants`` [L, 5] are the prime p, 1 / p, and modulo p near zero 2^32, 2^64 and 2^96. No branch
and no index depends on a residue.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

BLOCK = 512
MOST = 64
"""Products of residues that are added before they are reduced: 64·0.6·2^46 < 2^53."""


def _fused(typingctx, a, b, c):  # type: ignore[no-untyped-def]  # pragma: no cover
    """a·b + c, rounded once."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.fma(*values)

    return types.float64(types.float64, types.float64, types.float64), build


def _nearest(typingctx, a):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The nearest integer, halves to the even."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        function = builder.module.declare_intrinsic("llvm.rint", [ir.DoubleType()])
        return builder.call(function, values)

    return types.float64(types.float64), build


fused: Any = intrinsic(_fused)
nearest: Any = intrinsic(_nearest)


@njit(cache=True, nogil=True, inline="always")
def times(x, factor, ratio, p):  # type: ignore[no-untyped-def]  # pragma: no cover
    """x·factor mod p, within 0.75 p of zero, for |x| < 2^51, |factor| < p; ratio = factor / p."""
    up = x * factor
    low = fused(x, factor, -up)
    return fused(-nearest(x * ratio), p, up) + low


@njit(cache=True, nogil=True, inline="always")
def product(x, y, p, inverse):  # type: ignore[no-untyped-def]  # pragma: no cover
    """x·y mod p, within 0.6 p of zero, for |x·y| < 2^94, |x·y| / p < 2^48."""
    up = x * y
    low = fused(x, y, -up)
    return fused(-nearest(up * inverse), p, up) + low


@njit(cache=True, nogil=True, inline="always")
def centred(x, p, inverse):  # type: ignore[no-untyped-def]  # pragma: no cover
    """x mod p within 0.6 p of zero, |x| < 2^52."""
    return fused(-nearest(x * inverse), p, x)


@njit(cache=True, nogil=True, inline="always")
def canonical(x, p, inverse):  # type: ignore[no-untyped-def]  # pragma: no cover
    """x mod p as a word below p, |x| < 2^52."""
    rest = centred(x, p, inverse)
    return np.uint64(np.int64(rest + (p if rest < 0.0 else 0.0)))


@njit(cache=True, nogil=True, inline="always")
def real(word):  # type: ignore[no-untyped-def]  # pragma: no cover
    return np.float64(np.int64(word))


@njit(cache=True, nogil=True)
def forward(x, constants, roots, ratios, last, last_ratios):  # type: ignore[no-untyped-def]  # pragma: no cover
    """As ``ntt_kernels.forward``; the last three stages at once, roots [L, 7, N / 8]."""
    n = x.shape[2]
    work = np.empty(n)
    for k in range(x.shape[0]):
        for layer in range(x.shape[1]):
            p, over = constants[layer, 0], constants[layer, 1]
            row = x[k, layer]
            for j in range(n):
                work[j] = real(row[j])
            gap, groups = n >> 1, 1
            while gap >= 8:
                for group in range(groups):
                    root, ratio = roots[layer, groups + group], ratios[layer, groups + group]
                    low = work[2 * group * gap : (2 * group + 1) * gap]
                    up = work[(2 * group + 1) * gap : (2 * group + 2) * gap]
                    for j in range(gap):
                        a = low[j]
                        b = times(up[j], root, ratio, p)
                        low[j] = a + b
                        up[j] = a - b
                gap >>= 1
                groups <<= 1
            w, r = last[layer], last_ratios[layer]
            for g in range(n >> 3):
                at = 8 * g
                x0, x1, x2, x3 = work[at], work[at + 1], work[at + 2], work[at + 3]
                x4 = times(work[at + 4], w[0, g], r[0, g], p)
                x5 = times(work[at + 5], w[0, g], r[0, g], p)
                x6 = times(work[at + 6], w[0, g], r[0, g], p)
                x7 = times(work[at + 7], w[0, g], r[0, g], p)
                y0, y1, y4, y5 = x0 + x4, x1 + x5, x0 - x4, x1 - x5
                y2 = times(x2 + x6, w[1, g], r[1, g], p)
                y3 = times(x3 + x7, w[1, g], r[1, g], p)
                y6 = times(x2 - x6, w[2, g], r[2, g], p)
                y7 = times(x3 - x7, w[2, g], r[2, g], p)
                z1 = times(y1 + y3, w[3, g], r[3, g], p)
                z3 = times(y1 - y3, w[4, g], r[4, g], p)
                z5 = times(y5 + y7, w[5, g], r[5, g], p)
                z7 = times(y5 - y7, w[6, g], r[6, g], p)
                work[at], work[at + 1] = y0 + y2 + z1, y0 + y2 - z1
                work[at + 2], work[at + 3] = y0 - y2 + z3, y0 - y2 - z3
                work[at + 4], work[at + 5] = y4 + y6 + z5, y4 + y6 - z5
                work[at + 6], work[at + 7] = y4 - y6 + z7, y4 - y6 - z7
            for j in range(n):
                row[j] = canonical(work[j], p, over)


@njit(cache=True, nogil=True)
def inverse(x, constants, roots, ratios, last, last_ratios, scales):  # type: ignore[no-untyped-def]  # pragma: no cover
    """As ``ntt_kernels.inverse``; the first three stages at once, sums reduced every third."""
    n = x.shape[2]
    work = np.empty(n)
    for k in range(x.shape[0]):
        for layer in range(x.shape[1]):
            p, over = constants[layer, 0], constants[layer, 1]
            row = x[k, layer]
            for j in range(n):
                work[j] = real(row[j])
            w, r = last[layer], last_ratios[layer]
            for g in range(n >> 3):
                at = 8 * g
                z0, z1, z2, z3 = work[at], work[at + 1], work[at + 2], work[at + 3]
                z4, z5, z6, z7 = work[at + 4], work[at + 5], work[at + 6], work[at + 7]
                y0, y1 = z0 + z1, times(z0 - z1, w[3, g], r[3, g], p)
                y2, y3 = z2 + z3, times(z2 - z3, w[4, g], r[4, g], p)
                y4, y5 = z4 + z5, times(z4 - z5, w[5, g], r[5, g], p)
                y6, y7 = z6 + z7, times(z6 - z7, w[6, g], r[6, g], p)
                x0, x2 = y0 + y2, times(y0 - y2, w[1, g], r[1, g], p)
                x1, x3 = y1 + y3, times(y1 - y3, w[1, g], r[1, g], p)
                x4, x6 = y4 + y6, times(y4 - y6, w[2, g], r[2, g], p)
                x5, x7 = y5 + y7, times(y5 - y7, w[2, g], r[2, g], p)
                work[at], work[at + 1] = centred(x0 + x4, p, over), centred(x1 + x5, p, over)
                work[at + 2], work[at + 3] = centred(x2 + x6, p, over), centred(x3 + x7, p, over)
                work[at + 4] = times(x0 - x4, w[0, g], r[0, g], p)
                work[at + 5] = times(x1 - x5, w[0, g], r[0, g], p)
                work[at + 6] = times(x2 - x6, w[0, g], r[0, g], p)
                work[at + 7] = times(x3 - x7, w[0, g], r[0, g], p)
            gap, groups, stage = 8, n >> 4, 0
            while groups:
                for group in range(groups):
                    root, ratio = roots[layer, groups + group], ratios[layer, groups + group]
                    low = work[2 * group * gap : (2 * group + 1) * gap]
                    up = work[(2 * group + 1) * gap : (2 * group + 2) * gap]
                    if stage % 3 == 2:
                        for j in range(gap):
                            a, b = low[j], up[j]
                            low[j] = centred(a + b, p, over)
                            up[j] = times(a - b, root, ratio, p)
                    else:
                        for j in range(gap):
                            a, b = low[j], up[j]
                            low[j] = a + b
                            up[j] = times(a - b, root, ratio, p)
                gap <<= 1
                groups >>= 1
                stage += 1
            scale, ratio = scales[layer, 0], scales[layer, 1]
            for j in range(n):
                row[j] = canonical(times(work[j], scale, ratio, p), p, over)


@njit(cache=True, nogil=True)
def multiply_add(a, b, weights, sum_a, sum_b, constants):  # type: ignore[no-untyped-def]  # pragma: no cover
    """As ``residue_kernels.multiply_add``."""
    outs, ins, levels, n = weights.shape
    total_a, total_b = np.empty(BLOCK), np.empty(BLOCK)
    for out in range(outs):
        for layer in range(levels):
            p, over = constants[layer, 0], constants[layer, 1]
            for start in range(0, n, BLOCK):
                stop = min(start + BLOCK, n)
                total_a[:], total_b[:] = 0.0, 0.0
                for term in range(ins):
                    w = weights[out, term, layer, start:stop]
                    x, y = a[term, layer, start:stop], b[term, layer, start:stop]
                    if term % MOST == MOST - 1:
                        for j in range(w.size):
                            total_a[j] = centred(total_a[j], p, over)
                            total_b[j] = centred(total_b[j], p, over)
                    for j in range(w.size):
                        factor = real(w[j])
                        total_a[j] += product(real(x[j]), factor, p, over)
                        total_b[j] += product(real(y[j]), factor, p, over)
                into, other = sum_a[out, layer, start:stop], sum_b[out, layer, start:stop]
                for j in range(into.size):
                    into[j] = canonical(total_a[j], p, over)
                    other[j] = canonical(total_b[j], p, over)


@njit(cache=True, nogil=True)
def product_add(x, y, z, out, constants):  # type: ignore[no-untyped-def]  # pragma: no cover
    """x·y + z, pointwise; x is [1 or k, L, N]."""
    several = x.shape[0] > 1
    for k in range(y.shape[0]):
        for layer in range(y.shape[1]):
            p, over = constants[layer, 0], constants[layer, 1]
            one, two, three = x[k if several else 0, layer], y[k, layer], z[k, layer]
            into = out[k, layer]
            for j in range(two.size):
                total = product(real(one[j]), real(two[j]), p, over) + real(three[j])
                into[j] = canonical(total, p, over)


@njit(cache=True, nogil=True)
def lift(numbers, out, constants):  # type: ignore[no-untyped-def]  # pragma: no cover
    """out += residues of signed integers [k, n] of at most 64 bits."""
    mask = np.int64((1 << 32) - 1)
    for k in range(out.shape[0]):
        for layer in range(out.shape[1]):
            p, over, two = constants[layer, 0], constants[layer, 1], constants[layer, 2]
            into, values = out[k, layer], numbers[k]
            for j in range(values.size):
                value = np.int64(values[j])
                up = product(np.float64(value >> np.int64(32)), two, p, over)
                into[j] = canonical(up + np.float64(value & mask) + real(into[j]), p, over)


@njit(cache=True, nogil=True)
def lift_small(numbers, out, constants):  # type: ignore[no-untyped-def]  # pragma: no cover
    """out += residues of int8 [k, n]."""
    for k in range(out.shape[0]):
        for layer in range(out.shape[1]):
            prime = np.int64(constants[layer, 0])
            into, values = out[k, layer], numbers[k]
            for j in range(values.size):
                total = np.int64(into[j]) + np.int64(values[j])
                total += prime if total < 0 else np.int64(0)
                into[j] = np.uint64(total - (prime if total >= prime else np.int64(0)))


@njit(cache=True, nogil=True)
def lift_wide(numbers, out, constants):  # type: ignore[no-untyped-def]  # pragma: no cover
    """out += residues of signed integers of two words [k, 2, n], low ones first."""
    mask = np.uint64((1 << 32) - 1)
    half = np.uint64(32)
    for k in range(out.shape[0]):
        for layer in range(out.shape[1]):
            p, over = constants[layer, 0], constants[layer, 1]
            two, four, six = constants[layer, 2], constants[layer, 3], constants[layer, 4]
            into, lows, ups = out[k, layer], numbers[k, 0], numbers[k, 1]
            for j in range(into.size):
                low, up = lows[j], ups[j]
                total = real(low & mask) + product(real(low >> half), two, p, over)
                total += product(real(up & mask), four, p, over)
                top = np.float64(np.int64(up) >> np.int64(32))
                total += product(top, six, p, over)
                into[j] = canonical(total + real(into[j]), p, over)


@njit(cache=True, nogil=True)
def scale(messages, out, constants, modulus, bits, inverses):  # type: ignore[no-untyped-def]  # pragma: no cover
    """As ``residue_kernels.scale``; inverses [L, 2] are centred, with their ratios."""
    half = np.int64(1) << np.int64(bits - 1)
    mask = (half << np.int64(1)) - np.int64(1)
    for k in range(out.shape[0]):
        for layer in range(out.shape[1]):
            p, over = constants[layer, 0], constants[layer, 1]
            factor, ratio = inverses[layer, 0], inverses[layer, 1]
            into, values = out[k, layer], messages[k]
            for j in range(values.size):
                rest = (modulus * values[j] + half) & mask
                value = times(np.float64(half - rest), factor, ratio, p)
                into[j] = canonical(value + real(into[j]), p, over)
