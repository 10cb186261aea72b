"""Random numbers that networks draw in a forward pass, whether by a layer or by a function."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from hansa.base.lazy import torch

_State: TypeAlias = tuple[Any, Any, Any]
_alone = threading.RLock()


@contextlib.contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Let all that is drawn meanwhile from torch, Python or NumPy follow from ``seed``.

    Only generators that belong to nobody are meant; those on the CPU are left as they were. There
    is one of each for all threads, so only one thread at a time is let in.
    """
    with _alone:
        before = _state()
        _seed(seed)
        try:
            yield
        finally:
            _restore(before)


class Draws:
    """As :func:`drawing`, taken up again where it was left whenever it is entered.

    So threads whose networks draw in their forward passes alone take turns in these only.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._state: _State | None = None
        self._before: _State | None = None

    def __enter__(self) -> None:
        _alone.acquire()
        self._before = _state()
        if self._state is None:
            _seed(self.seed)
        else:
            _restore(self._state)

    def __exit__(self, *_: object) -> None:
        assert self._before is not None  # it was entered
        self._state = _state()
        _restore(self._before)
        _alone.release()


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def _state() -> _State:
    return torch.get_rng_state(), random.getstate(), np.random.get_state()


def _restore(state: _State) -> None:
    torch.set_rng_state(state[0])
    random.setstate(state[1])
    np.random.set_state(state[2])


def generators(device: str = "cpu") -> list[Any]:
    """The state of the generators that :func:`drawing` seeds: drawing from any changes it."""
    numpy: Any = np.random.get_state(legacy=False)
    found = [torch.get_rng_state().tolist(), random.getstate(), str(numpy["bit_generator"])]
    found += [numpy["state"]["key"].tolist(), numpy["state"]["pos"], numpy["has_gauss"]]
    if device == "cuda":
        found.append(torch.cuda.get_rng_state().tolist())
    return found
