"""Compiled work on rows, split over threads."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np


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
