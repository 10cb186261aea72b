"""The numbers of certain ranks in whole task vectors, exact, without a whole vector in memory.

Absolute values of float32 are ordered as their bits are. One pass over the blocks counts the upper
halves of the bits, a second one the lower halves where the wanted number lies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK = 1 << 17
"""Numbers that are counted at a time."""


class ModelRanks:
    """Finds absolute values by their rank in each model's whole vector.

    Give all blocks to :meth:`count_high`, then the same to :meth:`count_low`.

    Args:
        models: how many.
        ranks: counted from the largest as 0.
    """

    def __init__(self, models: int, ranks: Sequence[int]) -> None:
        self._ranks = tuple(ranks)
        self._high = np.zeros((models, 1 << 15), dtype=np.int64)
        self._low = np.zeros((models, len(self._ranks), 1 << 16), dtype=np.int64)
        self._places: list[list[tuple[int, int]]] = []

    def count_high(self, vectors: Tensor, versions: Sequence[int]) -> None:
        """Count a block by the upper halves.

        Args:
            vectors: float32 [n, d] of its versions.
            versions: which of them each model has.
        """
        for bits, models in _by_version(vectors, versions):
            self._high[models] += _counts(bits, lambda part: part >> 16, self._high.shape[1])

    def count_low(self, vectors: Tensor, versions: Sequence[int]) -> None:
        """Count a block by the lower halves, where the wanted numbers lie."""
        if not self._places:
            self._places = [[_place(counts, rank) for rank in self._ranks] for counts in self._high]
        for bits, models in _by_version(vectors, versions):
            for high in sorted({self._places[m][k][0] for m in models for k in self._all}):
                counts = _counts(bits, partial(_lower, high), self._low.shape[2])
                for model in models:
                    for k in self._all:
                        if self._places[model][k][0] == high:
                            self._low[model, k] += counts

    @property
    def _all(self) -> range:
        return range(len(self._ranks))

    def values(self) -> np.ndarray:
        """The absolute values float32 [models, ranks]."""
        bits = [
            [(high << 16) | _place(self._low[m, k], rest)[0] for k, (high, rest) in enumerate(row)]
            for m, row in enumerate(self._places)
        ]
        return np.array(bits, dtype=np.uint32).view(np.float32)


def _lower(high: int, bits: np.ndarray) -> np.ndarray:
    """The lower halves of those whose upper half is ``high``."""
    return bits[bits >> 16 == high] & 0xFFFF


def _counts(bits: np.ndarray, part: Callable[[np.ndarray], np.ndarray], classes: int) -> np.ndarray:
    """How many bits uint32 [d], without their signs, have each value of a part of them."""
    counts = np.zeros(classes, dtype=np.int64)
    for start in range(0, len(bits), _CHUNK):
        chunk = bits[start : start + _CHUNK] & 0x7FFFFFFF
        counts += np.bincount(part(chunk).astype(np.int64), minlength=classes)
    return counts


def _by_version(vectors: Tensor, versions: Sequence[int]) -> Iterator[tuple[np.ndarray, list[int]]]:
    """The bits uint32 [d] of each version, and the models that have it."""
    for number, vector in enumerate(vectors):
        bits = vector.contiguous().view(torch.int32).numpy().view(np.uint32)
        yield bits, [model for model, version in enumerate(versions) if version == number]


def _place(counts: np.ndarray, rank: int) -> tuple[int, int]:
    """The class in which the number of a rank lies, and its rank within the class."""
    above = np.cumsum(counts[::-1])
    from_top = int(np.searchsorted(above, rank, side="right"))
    before = int(above[from_top - 1]) if from_top else 0
    return len(counts) - 1 - from_top, rank - before
