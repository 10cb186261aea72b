"""Compiled loops over many polynomials, on as many threads as are asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="hansa-rlwe")


if hasattr(os, "register_at_fork"):  # a child has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def spread(
    work: Callable[[slice], object], count: int, threads: int = 1, together: int = 0
) -> None:
    """Call ``work`` with slices that together are ``range(count)``, at the same time.

    The kernels hold no lock of the interpreter, so that threads run at once. With ``together``
    slices are of so many and begin at its multiples, however many threads there are.
    """
    if together:
        groups = -(-count // together)

        def several(part: slice) -> None:
            for group in range(part.start, part.stop):
                work(slice(group * together, min((group + 1) * together, count)))

        spread(several, groups, threads)
        return
    threads = min(threads, count)
    if threads <= 1:
        if count:
            work(slice(0, count))
        return
    edges = [count * one // threads for one in range(threads + 1)]
    parts = [slice(edges[k], edges[k + 1]) for k in range(threads)]
    for done in [_pool(threads - 1).submit(work, part) for part in parts[1:]] + [work(parts[0])]:
        if hasattr(done, "result"):
            done.result()
