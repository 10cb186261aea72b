"""Random numbers that networks draw in a forward pass, whether by a layer or by a function."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from hansa.base.lazy import torch

_alone = threading.RLock()


@contextlib.contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Let all that is drawn meanwhile from torch, Python or NumPy follow from ``seed``.

    Only generators that belong to nobody are meant; those on the CPU are left as they were. There
    is one of each for all threads, so only one thread at a time is let in.
    """
    with _alone:
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            torch.set_rng_state(before[0])
            random.setstate(before[1])
            np.random.set_state(before[2])


def generators(device: str = "cpu") -> list[Any]:
    """The state of the generators that :func:`drawing` seeds: drawing from any changes it."""
    numpy: Any = np.random.get_state(legacy=False)
    found = [torch.get_rng_state().tolist(), random.getstate(), str(numpy["bit_generator"])]
    found += [numpy["state"]["key"].tolist(), numpy["state"]["pos"], numpy["has_gauss"]]
    if device == "cuda":
        found.append(torch.cuda.get_rng_state().tolist())
    return found
