"""The weighted sums x_i <- sum_j W_ij x_j over rows, in place.

Compiled, blocked by columns: a block of columns of all rows is copied to a scratch that stays in
the core's cache, so main memory is read once and written once whatever the degree. The terms of
a sum are added in the order of their sender's id, one multiplication and one addition each, so a
result does not depend on how the nodes are split over blocks, to the last bit.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import Lazy, torch
from hansa.base.threads import lanes

if TYPE_CHECKING:
    from torch import Tensor

kernels = Lazy("hansa.engine.exchange.mixing_kernels")  # they need numba

_SCRATCH_BYTES = 1 << 20  # about one core's second-level cache
_WIDTHS = (128, 1024)  # columns a block: fewer waste time between rows, more miss the cache


def _in_fours(
    indptr: np.ndarray, index: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same sums with terms of weight 0 on a row's own first term, to a multiple of four."""
    lengths = np.diff(indptr)
    padded = np.concatenate([[0], np.cumsum(-(-lengths // 4) * 4)])
    place = np.arange(len(index)) + np.repeat(padded[:-1] - indptr[:-1], lengths)
    filled = np.repeat(index[np.minimum(indptr[:-1], len(index) - 1)], np.diff(padded))
    scale = np.zeros(padded[-1], weights.dtype)
    filled[place], scale[place] = index, weights
    return padded, filled, scale


def mix_rows_(
    own: Tensor,
    received: Tensor,
    indptr: np.ndarray,
    index: np.ndarray,
    weights: np.ndarray,
    threads: int = 0,
) -> None:
    """Replace each row of ``own`` by a weighted sum of rows, in place.

    Args:
        own: [n, K], contiguous; float32 or float64, on any device.
        received: [m, K], same type.
        indptr, index, weights: the sums in CSR form: row i adds ``weights[e]`` times row
            ``index[e]`` for e in ``indptr[i]:indptr[i+1]``, where index j < n is own[j] *before*
            the call and j >= n is received[j - n]; at least one term a row.
        threads: how many columns ranges to work on at once; 0 takes as many as there are lanes.
    """
    if own.device.type != "cpu":
        _mix_on_device_(own, received, indptr, index, weights)
        return
    if _is_average(len(own), len(received), indptr, index, weights):
        # Every node ends with the same mean: one sum serves all.
        mean = own[:1].clone()
        one = np.array([0, len(own)])
        _mix_cpu_(mean, own[1:], one, np.arange(len(own)), weights[: len(own)], threads)
        own.copy_(mean.expand_as(own))
        return
    _mix_cpu_(own, received, indptr, index, weights, threads)


def _mix_cpu_(
    own: Tensor,
    received: Tensor,
    indptr: np.ndarray,
    index: np.ndarray,
    weights: np.ndarray,
    threads: int,
) -> None:
    numbers = own.detach().numpy()
    others = received.detach().numpy()
    n, size = numbers.shape
    if n == 0 or size == 0:
        return
    indptr, index, weights = _in_fours(indptr, index, weights.astype(numbers.dtype))
    if _plainly(len(index) * size):
        _mix_plain(numbers, others, indptr, index, weights)
        return
    width = _SCRATCH_BYTES // (numbers.itemsize * (n + len(others)))
    width = min(max(width, _WIDTHS[0]), _WIDTHS[1], size)
    threads = threads or lanes()
    share = -(-size // (threads * width)) * width
    ranges = [(lo, min(lo + share, size)) for lo in range(0, size, share)]
    if len(ranges) == 1 or n * size < 1 << 16:
        kernels.mix(numbers, others, indptr, index, weights, width, 0, size)
        return
    with ThreadPoolExecutor(len(ranges)) as pool:
        work = [
            pool.submit(kernels.mix, numbers, others, indptr, index, weights, width, lo, hi)
            for lo, hi in ranges
        ]
        for done in work:
            done.result()


_done_plainly = 0
_PLAIN_TERMS = 1 << 28  # products: they take about as long as the compiler takes to load


def _plainly(terms: int) -> bool:
    """Whether the work so far, with this, is too little to load the compiler for."""
    global _done_plainly
    _done_plainly += terms
    return _done_plainly <= _PLAIN_TERMS


def _mix_plain(
    own: np.ndarray,
    received: np.ndarray,
    indptr: np.ndarray,
    index: np.ndarray,
    weights: np.ndarray,
) -> None:
    """The same sums without the compiled loop, to the last bit."""
    table = np.concatenate([own, received])
    term = np.empty(own.shape[1], own.dtype)
    with np.errstate(all="ignore"):  # of models that diverged, as in the compiled loop
        for i, out in enumerate(own):
            for e in range(indptr[i], indptr[i + 1]):
                if e == indptr[i]:
                    np.multiply(table[index[e]], weights[e], out=out)
                else:
                    out += np.multiply(table[index[e]], weights[e], out=term)


def _is_average(
    n: int, received: int, indptr: np.ndarray, index: np.ndarray, weights: np.ndarray
) -> bool:
    """Whether every sum is the same one over all own rows."""
    if received or n < 2 or len(index) != n * n or not np.all(np.diff(indptr) == n):
        return False
    same = (weights.reshape(n, n) == weights[:n]).all()
    return bool(same and (index.reshape(n, n) == np.arange(n)).all())


def _mix_on_device_(
    own: Tensor, received: Tensor, indptr: np.ndarray, index: np.ndarray, weights: np.ndarray
) -> None:
    table = torch.cat([own, received]) if len(received) else own
    matrix = torch.sparse_csr_tensor(
        torch.as_tensor(indptr),
        torch.as_tensor(index),
        torch.as_tensor(weights, dtype=own.dtype),
        size=(len(own), len(table)),
        device=own.device,
    )
    own.copy_(matrix @ table)
