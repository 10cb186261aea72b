"""Residues as floating-point limbs, and sums of limbs as residues (compiled)."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def split(residues, bits, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """uint64 [r, c] into float64 [limbs, r, c] of ``bits`` bits, the low one first."""
    mask = np.uint64((1 << bits) - 1)
    limbs, rows, columns = out.shape
    for row in range(rows):
        for limb in range(limbs):
            shift = np.uint64(limb * bits)
            for column in range(columns):
                out[limb, row, column] = float((residues[row, column] >> shift) & mask)


@njit(cache=True, nogil=True)
def join(parts, bits, prime, step, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """float64 [limbs, r, c] of whole numbers below 2^53 in size into residues uint64 [r, c].

    ``step`` bits at a time are shifted in: a residue so shifted fits a word.
    """
    limbs, rows, columns = parts.shape
    p = np.int64(prime)
    unsigned = np.uint64(prime)
    for row in range(rows):
        for column in range(columns):
            total = np.uint64(0)
            for at in range(limbs):
                limb = limbs - 1 - at
                left = bits if at else 0
                while left > 0:
                    shift = min(left, step)
                    total = (total << np.uint64(shift)) % unsigned
                    left -= shift
                part = np.int64(parts[limb, row, column]) % p
                if part < 0:
                    part += p
                total += np.uint64(part)
                if total >= unsigned:
                    total -= unsigned
            out[row, column] = total
