"""How many threads some work takes."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np


@contextlib.contextmanager
def one_thread(small: bool = True) -> Iterator[None]:
    """One thread for each of torch's operations, if they are too small to be shared out.

    Threads that wait for the other half of a tiny product spin, and take its time many times over.
    """
    import torch

    before = torch.get_num_threads()
    if small:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def over_rows(work: Callable[..., None], rows: int, *arguments: Any) -> None:
    """``work(*arguments, first, last)`` on adjacent ranges of rows, one for each torch thread.

    The work must free the interpreter's lock, and treat each row alone.
    """
    import torch

    threads = min(torch.get_num_threads(), rows)
    if threads < 2:
        work(*arguments, 0, rows)
        return
    cuts = np.linspace(0, rows, threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        parts = [pool.submit(work, *arguments, *span) for span in itertools.pairwise(cuts)]
        for part in parts:
            part.result()
