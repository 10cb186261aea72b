"""Adding to counters of very many nodes, of whom few have anything to add."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

_MANY = 1 << 16


def add_(counter: Tensor, values: np.ndarray) -> None:
    """Add values [n] to a counter [n], in place.

    A counter that was made of zeros takes no memory where nothing was ever added: of many nodes
    only those are touched that have something.
    """
    if len(values) < _MANY:
        counter.add_(torch.from_numpy(values))
        return
    some = np.flatnonzero(values)
    counter.numpy()[some] += values[some]
