"""What a node notes of each of its examples: small numbers by name, in the examples' order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


class Notes:
    """Notes of a block's nodes; those of one have room for more examples than there are.

    Args:
        initial: by name, what is noted of an example of which nobody said: a NumPy scalar, whose
            type is the note's.
        counts: int64 [n], examples that each node has.
    """

    def __init__(self, initial: Mapping[str, np.generic], counts: np.ndarray) -> None:
        self.initial = dict(initial)
        self._of = {
            name: [np.full(int(count), first, first.dtype) for count in counts]
            for name, first in initial.items()
        }

    def of(self, k: int, name: str, count: int) -> np.ndarray:
        """The k-th node's, of its first ``count`` examples, not copied."""
        return self._of[name][k][:count]

    def put(self, k: int, begin: int, count: int, said: Mapping[str, np.ndarray]) -> None:
        """Note what was said of ``count`` examples from place ``begin`` on."""
        for name, first in self.initial.items():
            self._make_room(name, k, begin + count)
            self._of[name][k][begin : begin + count] = said.get(name, first)

    def keep(self, k: int, places: np.ndarray) -> None:
        """Only the examples at these places stay, in this order."""
        for values in self._of.values():
            values[k] = values[k][places]

    def filed(self, at: Sequence[int], counts: np.ndarray) -> dict[str, Tensor]:
        """The notes of nodes that have so many examples, one after the other, by name."""
        return {
            f"note.{name}": torch.from_numpy(
                np.concatenate([values[k][: counts[k]] for k in at] or [values[0][:0]])
            )
            for name, values in self._of.items()
        }

    def restore(self, k: int, filed: Mapping[str, Tensor], span: slice) -> None:
        """Take up a node's notes, which lie at ``span`` of what was filed."""
        for name, values in self._of.items():
            values[k] = filed[f"note.{name}"][span].numpy().copy()

    def _make_room(self, name: str, k: int, end: int) -> None:
        values = self._of[name]
        if end > len(values[k]):
            longer = np.empty(max(end, 2 * len(values[k])), values[k].dtype)
            longer[: len(values[k])] = values[k]
            values[k] = longer
