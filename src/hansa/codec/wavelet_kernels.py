"""Compiled filters of the wavelet transform (see ``wavelet.py``)."""

from __future__ import annotations

import numpy as np
from numba import njit

_BLOCK = 1024  # coefficients at a time, so that they stay in the first-level cache


@njit(cache=True, nogil=True)
def mirrored(x, n, i):  # type: ignore[no-untyped-def]  # pragma: no cover
    r = i % (2 * n)
    return x[r] if r < n else x[2 * n - 1 - r]


@njit(cache=True, nogil=True)
def split(x, n, low, high, even, odd, approximation, detail):  # type: ignore[no-untyped-def]  # pragma: no cover
    taps = low.size
    m, pad, half = (n + taps - 1) // 2, taps // 2, n // 2
    # Numbers at even and odd places apart, so that the filters run over adjacent memory.
    for p in range(half):
        even[pad + p] = x[2 * p]
        odd[pad + p] = x[2 * p + 1]
    for q in range(pad):
        even[q] = mirrored(x, n, 2 * (q - pad))
        odd[q] = mirrored(x, n, 2 * (q - pad) + 1)
    for q in range(pad + half, pad + m):
        even[q] = mirrored(x, n, 2 * (q - pad))
        odd[q] = mirrored(x, n, 2 * (q - pad) + 1)
    for first in range(0, m, _BLOCK):
        last = min(m, first + _BLOCK)
        a, d = approximation[first:last], detail[first:last]
        a[:] = 0
        d[:] = 0
        for t in range(pad):
            o = odd[pad + first - t : pad + last - t]
            e = even[pad + first - t : pad + last - t]
            l0, l1, h0, h1 = low[2 * t], low[2 * t + 1], high[2 * t], high[2 * t + 1]
            for k in range(last - first):
                a[k] += l0 * o[k] + l1 * e[k]
                d[k] += h0 * o[k] + h1 * e[k]


@njit(cache=True, nogil=True)
def forward_rows(rows, out, low, high, offsets, lengths, first, last):  # type: ignore[no-untyped-def]  # pragma: no cover
    n, taps = rows.shape[1], low.size
    even = np.empty(n // 2 + 2 * taps, rows.dtype)
    odd = np.empty(n // 2 + 2 * taps, rows.dtype)
    here = np.empty(lengths[0] + 1, rows.dtype)
    spare = np.empty(lengths[0] + 1, rows.dtype)
    for r in range(first, last):
        m = lengths[0]
        split(rows[r], n, low, high, even, odd, here, out[r, offsets[0] : offsets[0] + m])
        for level in range(1, lengths.size):
            before, m = m, lengths[level]
            place = out[r, offsets[level] : offsets[level] + m]
            split(here, before, low, high, even, odd, spare, place)
            here, spare = spare, here
        out[r, :m] = here[:m]


@njit(cache=True, nogil=True)
def join(approximation, detail, m, n, low, high, even, odd, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    pad = low.size // 2
    half = (n + 1) // 2
    # out[2k] takes the even taps and out[2k + 1] the odd ones, of coefficients k .. k + pad - 1.
    for first in range(0, half, _BLOCK):
        last = min(half, first + _BLOCK)
        e, o = even[: last - first], odd[: last - first]
        e[:] = 0
        o[:] = 0
        for t in range(pad):
            shift = pad - 1 - t
            a = approximation[first + shift : last + shift]
            d = detail[first + shift : last + shift]
            l0, l1, h0, h1 = low[2 * t], low[2 * t + 1], high[2 * t], high[2 * t + 1]
            for k in range(last - first):
                e[k] += l0 * a[k] + h0 * d[k]
                o[k] += l1 * a[k] + h1 * d[k]
        for k in range(last - first):
            out[2 * (first + k)] = e[k]
            out[2 * (first + k) + 1] = o[k]


@njit(cache=True, nogil=True)
def inverse_rows(rows, out, low, high, offsets, lengths, first, last):  # type: ignore[no-untyped-def]  # pragma: no cover
    levels, size = lengths.size, out.shape[1]
    even = np.empty(_BLOCK, rows.dtype)
    odd = np.empty(_BLOCK, rows.dtype)
    here = np.empty(size + 2, rows.dtype)
    spare = np.empty(size + 2, rows.dtype)
    for r in range(first, last):
        m = lengths[levels - 1]
        here[:m] = rows[r, :m]
        for level in range(levels - 1, -1, -1):
            n = size if level == 0 else lengths[level - 1]
            detail = rows[r, offsets[level] : offsets[level] + m]
            join(here, detail, m, n, low, high, even, odd, spare)
            here, spare = spare, here
            m = n
        out[r, :] = here[:size]
