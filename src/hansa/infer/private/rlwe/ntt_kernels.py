"""Compiled negacyclic number-theoretic transforms (see ``ntt.py``).

Butterflies of Harvey (2014, "Faster arithmetic for number-theoretic transforms"): products by
Shoup's method, sums reduced late. All values are words below four times the prime, which is below
2^62. No branch and no index depends on a coefficient.
"""

from __future__ import annotations

from numba import njit

from hansa.infer.private.rlwe.wide_kernels import shoup


@njit(cache=True, nogil=True, inline="always")
def _less(x, bound):  # type: ignore[no-untyped-def]  # pragma: no cover
    """x, less bound where it is no smaller, as a minimum of words: there is no branch in it."""
    return min(x, x - bound)


@njit(cache=True, nogil=True)
def forward(x, primes, roots, quotients):  # type: ignore[no-untyped-def]  # pragma: no cover
    """In place, x uint64 [k, L, N]: coefficients < prime to values < prime, bits reversed."""
    n = x.shape[2]
    for k in range(x.shape[0]):
        for layer in range(x.shape[1]):
            prime = primes[layer]
            twice = prime + prime
            row = x[k, layer]
            gap, groups = n >> 1, 1
            while groups < n:
                for group in range(groups):
                    root = roots[layer, groups + group]
                    quotient = quotients[layer, groups + group]
                    low = row[2 * group * gap : (2 * group + 1) * gap]
                    up = row[(2 * group + 1) * gap : (2 * group + 2) * gap]
                    for j in range(gap):
                        a = _less(low[j], twice)
                        b = shoup(up[j], root, quotient, prime)
                        low[j] = a + b
                        up[j] = a - b + twice
                gap >>= 1
                groups <<= 1
            for j in range(n):
                row[j] = _less(_less(row[j], twice), prime)


@njit(cache=True, nogil=True)
def inverse(x, primes, roots, quotients, scales):  # type: ignore[no-untyped-def]  # pragma: no cover
    """In place, the way back of :func:`forward`; scales [L, 2] are 1 / N and its quotient."""
    n = x.shape[2]
    for k in range(x.shape[0]):
        for layer in range(x.shape[1]):
            prime = primes[layer]
            twice = prime + prime
            row = x[k, layer]
            gap, groups = 1, n >> 1
            while groups:
                for group in range(groups):
                    root = roots[layer, groups + group]
                    quotient = quotients[layer, groups + group]
                    low = row[2 * group * gap : (2 * group + 1) * gap]
                    up = row[(2 * group + 1) * gap : (2 * group + 2) * gap]
                    for j in range(gap):
                        a, b = low[j], up[j]
                        low[j] = _less(a + b, twice)
                        up[j] = shoup(a - b + twice, root, quotient, prime)
                gap <<= 1
                groups >>= 1
            scale, quotient = scales[layer, 0], scales[layer, 1]
            for j in range(n):
                row[j] = _less(shoup(row[j], scale, quotient, prime), prime)
