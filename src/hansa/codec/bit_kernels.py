"""Compiled loops over the bits of index codes (see ``bits.py``)."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def bit(data, at):  # type: ignore[no-untyped-def]  # pragma: no cover
    return (int(data[at >> 3]) >> (7 - (at & 7))) & 1


@njit(cache=True, nogil=True)
def gamma_write(gaps, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    at = 0
    for gap in gaps:
        bits = 0
        while (gap >> bits) > 1:
            bits += 1
        at += bits
        for b in range(bits, -1, -1):
            if (gap >> b) & 1:
                out[at >> 3] |= np.uint8(128 >> (at & 7))
            at += 1


@njit(cache=True, nogil=True)
def gamma_read(data, positions, size, _):  # type: ignore[no-untyped-def]  # pragma: no cover
    at, total, last = 0, data.size * 8, -1
    for k in range(positions.size):
        bits = 0
        while at < total and not bit(data, at):
            bits += 1
            at += 1
        if bits > 40 or at + bits >= total:
            return -1
        gap = 0
        for _b in range(bits + 1):
            gap = (gap << 1) | bit(data, at)
            at += 1
        last += gap
        if last >= size:
            return -1
        positions[k] = last
    return at


@njit(cache=True, nogil=True)
def rice_write(gaps, parameter, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    at = 0
    for gap in gaps:
        at += gap >> parameter  # zeros
        out[at >> 3] |= np.uint8(128 >> (at & 7))
        at += 1
        for b in range(parameter - 1, -1, -1):
            if (gap >> b) & 1:
                out[at >> 3] |= np.uint8(128 >> (at & 7))
            at += 1


@njit(cache=True, nogil=True)
def rice_read(data, positions, size, parameter):  # type: ignore[no-untyped-def]  # pragma: no cover
    at, total, last = 0, data.size * 8, -1
    for k in range(positions.size):
        quotient = 0
        while at < total and not bit(data, at):
            quotient += 1
            at += 1
        at += 1
        if at + parameter > total or quotient > size:
            return -1
        rest = 0
        for _b in range(parameter):
            rest = (rest << 1) | bit(data, at)
            at += 1
        last += (quotient << parameter) + rest + 1
        if last >= size:
            return -1
        positions[k] = last
    return at
