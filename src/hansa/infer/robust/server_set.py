"""The server's own labelled examples, as all members answer them: what learned rules learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ServerSet:
    """Honest answers to examples whose classes are known.

    Attributes:
        probabilities: float32 [m, n, K], of n members.
        labels: int64 [m].
    """

    probabilities: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def members(self) -> int:
        """n."""
        return self.probabilities.shape[1]

    @property
    def classes(self) -> int:
        """K."""
        return self.probabilities.shape[2]

    def take(self, index: np.ndarray) -> ServerSet:
        """Some of the examples."""
        at = torch.from_numpy(index)
        return ServerSet(self.probabilities[at], self.labels[at])

    def held_out(self, share: float, rng: np.random.Generator) -> tuple[ServerSet, ServerSet]:
        """(what is learned from, what judges): a share of each class judges, rounded.

        A class with a single example is learned from; at least one example judges.
        """
        labels = self.labels.numpy()
        judges: list[int] = []
        for k in np.unique(labels):
            own = rng.permutation(np.flatnonzero(labels == k))
            judges += own[: min(round(share * len(own)), len(own) - 1)].tolist()
        if not judges:
            judges = [int(rng.integers(len(labels)))]
        mask = np.zeros(len(labels), bool)
        mask[judges] = True
        return self.take(np.flatnonzero(~mask)), self.take(np.flatnonzero(mask))


def check_classes(labels: Tensor, classes: int, names: tuple[str, ...] = ()) -> None:
    """Refuse a server set without an example of some class: no rule can learn what it never saw.

    Args:
        labels: int64 [s].
        names: of the classes, or none.

    Raises:
        ConfigError: names the classes.
    """
    seen = torch.bincount(labels, minlength=classes)
    missing = [k for k in range(classes) if not seen[k]]
    if missing:
        shown = ", ".join(names[k] if names else str(k) for k in missing)
        problem = f"of {len(labels)} examples has none of class {shown}"
        fix = "a larger clients.server, more data, or aggregators that learn nothing"
        raise ConfigError("clients.server", None, problem, fix)
