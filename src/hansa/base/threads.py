"""How many threads some work takes.

A sum that torch shares out over threads depends, in its last bits, on how many there are. So
while a run is on, each of torch's operations takes one thread (:func:`one_thread`), and what keeps
all cores busy are whole pieces of work side by side, as many as :func:`lanes` says, whose results
do not depend on it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

_here = threading.local()


def cores() -> int:
    """Cores that this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lanes() -> int:
    """Pieces of work that may be done side by side: as many as torch was given threads."""
    import torch

    return getattr(_here, "lanes", None) or torch.get_num_threads()


@contextlib.contextmanager
def one_thread(small: bool = True) -> Iterator[None]:
    """One thread for each of torch's operations here, and :func:`lanes` as before.

    Args:
        small: the operations are so small that there is nothing to be shared out at all: one lane.
    """
    import torch

    before, threads = getattr(_here, "lanes", None), torch.get_num_threads()
    _here.lanes = 1 if small else lanes()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _here.lanes = before


def over_rows(work: Callable[..., None], rows: int, *arguments: Any) -> None:
    """``work(*arguments, first, last)`` on adjacent ranges of rows, one for each of the lanes.

    The work must free the interpreter's lock, and treat each row alone.
    """
    threads = min(lanes(), rows)
    if threads < 2:
        work(*arguments, 0, rows)
        return
    cuts = np.linspace(0, rows, threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        parts = [pool.submit(work, *arguments, *span) for span in itertools.pairwise(cuts)]
        for part in parts:
            part.result()
