"""What a client takes part in forgetting with: synthetic images, real examples, or both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from hansa.base.lazy import torch
from hansa.data import Dataset

if TYPE_CHECKING:
    from torch import Tensor

Batch: TypeAlias = "tuple[torch.Tensor, torch.Tensor, torch.Tensor]"
"""Inputs [b, ...], classes [b] and weights [b] that add up to 1."""


class Holding(ABC):
    """A client's own data for local steps. It is never sent."""

    client: int

    @property
    @abstractmethod
    def mass(self) -> float:
        """What the client's model counts in an average, as a number of examples."""

    @abstractmethod
    def labels(self) -> np.ndarray:
        """int64 [m], the classes of all of it."""

    def counts(self, classes: int) -> np.ndarray:
        """int64 [C], how much there is of each class."""
        return np.bincount(self.labels(), minlength=classes)

    @abstractmethod
    def draws(self, random: np.random.Generator, steps: int) -> Iterator[Batch]:
        """The batches of so many steps."""

    def draw(self, random: np.random.Generator) -> Batch:
        """The batch of one step."""
        return next(iter(self.draws(random, 1)))


@dataclass(frozen=True)
class Synthetic(Holding):
    """Synthetic images [m, ...] with their classes [m]: every step takes all of them."""

    client: int
    x: Tensor
    y: Tensor

    @property
    def mass(self) -> float:
        return len(self.y)

    def labels(self) -> np.ndarray:
        return self.y.cpu().numpy()

    def draws(self, random: np.random.Generator, steps: int) -> Iterator[Batch]:
        weight = torch.full((len(self.y),), 1 / len(self.y), device=self.x.device)
        for _ in range(steps):
            yield self.x, self.y, weight


@dataclass(frozen=True)
class Real(Holding):
    """Training examples: a step takes up to ``batch_size`` of each class.

    The classes weigh as many as there are, so that the step is that of QuickDrop's training.
    """

    client: int
    dataset: Dataset
    index: np.ndarray
    batch_size: int

    @property
    def mass(self) -> float:
        return len(self.index)

    def labels(self) -> np.ndarray:
        return self.dataset.train.targets.cpu().numpy()[self.index]

    def draws(self, random: np.random.Generator, steps: int) -> Iterator[Batch]:
        train = self.dataset.train
        device = train.targets.device
        labels = self.labels()
        picked, shares = [], []
        for label in np.unique(labels):  # class by class, as training draws them
            members = self.index[labels == label]
            size = min(len(members), self.batch_size)
            drawn = [random.choice(members, size, replace=False) for _ in range(steps)]
            picked.append(np.stack(drawn))
            shares.append(np.full(size, len(members) / len(self.index) / size))
        weight = torch.from_numpy(np.concatenate(shares)).float().to(device)
        for index in np.concatenate(picked, axis=1):
            yield *self.dataset.gather(train, torch.from_numpy(index).to(device)), weight


@dataclass(frozen=True)
class Mixed(Holding):
    """Synthetic images, and in every step so many real examples that they are this share."""

    synthetic: Synthetic
    real: Real
    share: float

    @property
    def client(self) -> int:  # type: ignore[override]
        return self.synthetic.client

    @property
    def mass(self) -> float:
        return self.synthetic.mass

    def labels(self) -> np.ndarray:
        return self.synthetic.labels()

    def draws(self, random: np.random.Generator, steps: int) -> Iterator[Batch]:
        for x, y, _ in self.synthetic.draws(random, steps):
            yield self._joined(x, y, random)

    def _joined(self, x: Tensor, y: Tensor, random: np.random.Generator) -> Batch:
        wanted = round(len(y) * self.share / (1 - self.share))
        chosen = random.choice(self.real.index, min(wanted, len(self.real.index)), replace=False)
        index = torch.from_numpy(chosen).to(y.device)
        more, labels = self.real.dataset.gather(self.real.dataset.train, index)
        x, y = torch.cat([x, more]), torch.cat([y, labels])
        return x, y, torch.full((len(y),), 1 / len(y), device=x.device)


@dataclass(frozen=True)
class Sampled(Holding):
    """So many training examples of a client, whatever their class, drawn anew for every step."""

    client: int
    dataset: Dataset
    index: np.ndarray
    count: int

    @property
    def mass(self) -> float:
        return len(self.index)

    def labels(self) -> np.ndarray:
        return self.dataset.train.targets.cpu().numpy()[self.index]

    def draws(self, random: np.random.Generator, steps: int) -> Iterator[Batch]:
        train, size = self.dataset.train, min(self.count, len(self.index))
        device = train.targets.device
        weight = torch.full((size,), 1 / size, device=device)
        for _ in range(steps):
            chosen = torch.from_numpy(random.choice(self.index, size, replace=False)).to(device)
            yield *self.dataset.gather(train, chosen), weight
