"""A split that may grow: examples that came later lie behind those that were there at first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.data.dataset import Split

if TYPE_CHECKING:
    from torch import Tensor


class Pool:
    """Examples in places that are given, freed and given again; room doubles when it is short.

    Attributes:
        inputs, targets: [room, ...] and [room], what is in them where no example is, is not said.
    """

    def __init__(self, like: Split) -> None:
        self.inputs = like.inputs[:0].clone()
        self.targets = like.targets[:0].clone()
        self._free: list[int] = []
        self._end = 0

    def __len__(self) -> int:
        return self._end - len(self._free)

    def put(self, inputs: Tensor, targets: Tensor) -> np.ndarray:
        """File examples; returns where each is, int64 [m]."""
        count = len(targets)
        reused = [self._free.pop() for _ in range(min(count, len(self._free)))]
        fresh = np.arange(self._end, self._end + count - len(reused))
        at = np.concatenate([np.array(reused, dtype=np.int64), fresh]) if reused else fresh
        self._end += len(fresh)
        if self._end > len(self.targets):
            room = max(self._end, 2 * len(self.targets))
            self.inputs, self.targets = _longer(self.inputs, room), _longer(self.targets, room)
        places = torch.from_numpy(at).to(self.targets.device)
        self.inputs[places] = inputs.to(self.inputs.device)
        self.targets[places] = targets.to(self.targets.device)
        return at

    def free(self, at: np.ndarray) -> None:
        """Forget the examples at these places."""
        self._free.extend(at.tolist())


@dataclass(frozen=True)
class Grown(Split):
    """A split and a pool: positions from the split's length on are places in the pool.

    ``inputs``, ``targets`` and the length are those of the split at first.
    """

    pool: Pool = field(kw_only=True)

    @classmethod
    def of(cls, split: Split) -> Grown:
        """A split to which nothing has come yet."""
        return cls(split.inputs, split.targets, pool=Pool(split))

    def at(self, index: Tensor) -> tuple[Tensor, Tensor]:
        late = index >= len(self)
        if not late.any():
            return super().at(index)
        x, y = (t.new_empty((len(index), *t.shape[1:])) for t in (self.inputs, self.targets))
        x[~late], y[~late] = super().at(index[~late])
        places = index[late] - len(self)
        x[late], y[late] = self.pool.inputs[places], self.pool.targets[places]
        return x, y


def _longer(rows: Tensor, room: int) -> Tensor:
    longer = rows.new_zeros((room, *rows.shape[1:]))
    longer[: len(rows)] = rows
    return longer
