"""Where the synthetic images of clients lie in rows of one length, class by class."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.ensemble.condensation import set_sizes

if TYPE_CHECKING:
    from torch import Tensor

SHELF = "client.synthetic"
"""The shelf of a block on which clients keep their synthetic images."""


@dataclass(frozen=True)
class SyntheticLayout:
    """Client i's images of class 0, then those of class 1, and so on, then filling.

    Attributes:
        counts: int64 [clients, C], images of each.
        shape: of an image as a model takes it.
    """

    counts: np.ndarray
    shape: tuple[int, ...]

    @classmethod
    def of(cls, labels: np.ndarray, scale: float, shape: tuple[int, ...]) -> SyntheticLayout:
        """For clients with ``labels`` [clients, C] examples of each class."""
        return cls(set_sizes(labels, scale), shape)

    @property
    def pixels(self) -> int:
        """Numbers of one image."""
        return prod(self.shape)

    @property
    def width(self) -> int:
        """Numbers of a row, enough for the client with most images."""
        return int(self.counts.sum(1).max(initial=0)) * self.pixels

    def images(self, row: Tensor, client: int) -> Tensor:
        """The images [m, *shape] in a client's row, a view."""
        size = int(self.counts[client].sum()) * self.pixels
        return row[:size].view(-1, *self.shape)

    def labels(self, client: int) -> Tensor:
        """Their classes, int64 [m]."""
        counts = torch.from_numpy(self.counts[client])
        return torch.repeat_interleave(torch.arange(len(counts)), counts)

    def places(self, client: int, label: int) -> slice:
        """Where the images of a class stand among a client's."""
        ends = np.cumsum(self.counts[client])
        return slice(int(ends[label] - self.counts[client, label]), int(ends[label]))
