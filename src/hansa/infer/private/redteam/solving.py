"""Weights out of equations: exact ones modulo a prime, and ones with small errors."""

from __future__ import annotations

import numpy as np

_OUTERMOST = 0.01


def solve_modulo(matrix: np.ndarray, right: np.ndarray, prime: int) -> np.ndarray | None:
    """Gaussian elimination: the unknowns of ``matrix @ unknowns = right`` modulo a prime.

    Args:
        matrix: residues [m, d], m at least d.
        right: residues [m, r].
        prime: below 2^63.

    Returns:
        int64 [d, r], centred around zero; None where the equations determine nothing.
    """
    size = matrix.shape[1]
    rows = np.concatenate([matrix, right], 1).astype(object) % prime
    for k in range(size):
        pivots = np.flatnonzero(rows[k:, k] != 0)
        if not len(pivots):
            return None
        rows[[k, k + pivots[0]]] = rows[[k + pivots[0], k]]
        rows[k] = rows[k] * pow(int(rows[k, k]), -1, prime) % prime
        below = np.arange(len(rows)) != k
        rows[below] = (rows[below] - np.outer(rows[below, k], rows[k])) % prime
    found = rows[:size, size:]
    return np.where(found > prime // 2, found - prime, found).astype(np.int64)


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
