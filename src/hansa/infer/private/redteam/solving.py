"""Weights out of equations: exact ones modulo a prime, and ones with small errors."""

from __future__ import annotations

import numpy as np

_OUTERMOST = 0.01


def solve_modulo(matrix: np.ndarray, right: np.ndarray, prime: int) -> np.ndarray | None:
    """Gaussian elimination: the unknowns of ``matrix @ unknowns = right`` modulo a prime.

    Args:
        matrix: residues [m, d], m at least d.
        right: residues [m, r].
        prime: below 2^50.

    Returns:
        int64 [d, r], centred around zero; None where the equations determine nothing.
    """
    size = matrix.shape[1]
    rows = np.concatenate([matrix, right], 1).astype(np.int64) % prime
    for k in range(size):
        pivots = np.flatnonzero(rows[k:, k])
        if not len(pivots):
            return None
        rows[[k, k + pivots[0]]] = rows[[k + pivots[0], k]]
        inverse = np.int64(pow(int(rows[k, k]), -1, prime))
        rows[k, k:] = _times(rows[k, k:], inverse, prime)
        others = rows[:, k].copy()
        others[k] = 0
        rows[:, k:] -= _times(others[:, None], rows[k, k:], prime)
        rows[:, k:] += prime * (rows[:, k:] < 0)
    found = rows[:size, size:]
    return np.where(found > prime // 2, found - prime, found)


def _times(x: np.ndarray, y: np.ndarray | np.int64, prime: int) -> np.ndarray:
    """x·y modulo a prime: the quotient in floating point is off by one at most, and the rest fits a
    word, though the product does not."""
    quotient = np.asarray(x.astype(float) * y / prime).astype(np.int64)
    with np.errstate(over="ignore"):
        rest = np.asarray(x * y - quotient * np.int64(prime))
    rest += prime * (rest < 0)
    rest -= prime * (rest >= prime)
    return rest


def solve_rounded(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Least squares, rounded to integers.

    Args:
        matrix: numbers [m, d].
        right: numbers [m, r].

    Returns:
        int64 [d, r]; zeros where the equations leave a number open.
    """
    solved = np.linalg.lstsq(matrix.astype(float), right.astype(float), rcond=None)[0]
    return np.rint(np.clip(solved, -(2.0**62), 2.0**62)).astype(np.int64)


def middle(readings: np.ndarray) -> np.ndarray:
    """Numbers [d] out of readings [n, d] with uniform errors: the middle of their range, whose
    error falls as 1 / n, where that of the mean falls as 1 / sqrt(n).

    Of many readings the outermost hundredths are left out: there the normal error of the rounding
    to words blurs the ends.
    """
    low, high = np.quantile(readings, [_OUTERMOST, 1 - _OUTERMOST], 0)
    return np.asarray((low + high) / 2)
