"""The compiled loop of weighted sums of rows (see ``mixing.py``)."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def mix(own, received, indptr, index, weights, width, first, last):  # type: ignore[no-untyped-def]  # pragma: no cover
    n, m = own.shape[0], received.shape[0]
    table = np.empty((n + m, width), own.dtype)
    for start in range(first, last, width):
        k = min(width, last - start)
        table[:n, :k] = own[:, start : start + k]
        table[n:, :k] = received[:, start : start + k]
        for i in range(n):
            out = own[i, start : start + k]
            # Four terms a pass over the sum, added in order: fewer loads and stores of it.
            for e in range(indptr[i], indptr[i + 1], 4):
                r0, r1 = table[index[e], :k], table[index[e + 1], :k]
                r2, r3 = table[index[e + 2], :k], table[index[e + 3], :k]
                w0, w1, w2, w3 = weights[e], weights[e + 1], weights[e + 2], weights[e + 3]
                if e == indptr[i]:
                    for c in range(k):
                        out[c] = ((w0 * r0[c] + w1 * r1[c]) + w2 * r2[c]) + w3 * r3[c]
                else:
                    for c in range(k):
                        out[c] = (((out[c] + w0 * r0[c]) + w1 * r1[c]) + w2 * r2[c]) + w3 * r3[c]
