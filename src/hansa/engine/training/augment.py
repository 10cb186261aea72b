"""Training images changed at random, anew each time that they are seen.

The random numbers are each node's own and do not depend on who trains beside it. Measuring,
validating and scoring see the images as they are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import Component, register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.base.spec import DataSpec
from hansa.data import Dataset

if TYPE_CHECKING:
    from torch import Tensor


class Augmentation(Component, kind="augmentation"):
    """A random change of images."""

    numbers: ClassVar[int] = 1
    """How many random numbers it takes for an image."""

    def check(self, spec: DataSpec) -> None:
        """Refuse data that it cannot change.

        Raises:
            ConfigError: they are no images, or too small.
        """
        if spec.kind != "image":
            problem = f"changes images, and these data are of kind {spec.kind}"
            raise ConfigError("", type(self).name, problem, "leave it out")

    @abstractmethod
    def apply(self, x: Tensor, chance: Tensor, black: Tensor) -> Tensor:
        """Changed copies of images.

        Args:
            x: float32 [n, C, H, W], model inputs.
            chance: float32 [n, numbers], uniform in 0..1.
            black: float32 [C], what a stored 0 is for the model.

        Returns:
            float32 [n, C, H, W].
        """


@register("crop")
class Crop(Augmentation):
    """Pad with black on all sides and cut out an image of the old size at random."""

    numbers: ClassVar[int] = 2
    padding: int = Field(4, ge=1, description="pixels on each side")

    def apply(self, x: Tensor, chance: Tensor, black: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        pad = self.padding
        # Channels last, as images are stored: a pixel is copied in one piece.
        wide = black.expand(n, height + 2 * pad, width + 2 * pad, channels).clone()
        wide[:, pad : pad + height, pad : pad + width] = x.permute(0, 2, 3, 1)
        corner = (chance * (2 * pad + 1)).long()
        rows = corner[:, :1] + torch.arange(height, device=x.device)
        columns = corner[:, 1:] + torch.arange(width, device=x.device)
        which = torch.arange(n, device=x.device).reshape(-1, 1, 1)
        return wide[which, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)


@register("flip")
class Flip(Augmentation):
    """Mirror left and right."""

    share: float = Field(0.5, gt=0, le=1, description="of the images")

    def apply(self, x: Tensor, chance: Tensor, black: Tensor) -> Tensor:
        return torch.where((chance < self.share).reshape(-1, 1, 1, 1), x.flip(-1), x)


@register("cutout", paper="DeVries and Taylor", year=2017, url="https://arxiv.org/abs/1708.04552")
class Cutout(Augmentation):
    """Set a square around a random pixel to 0 (DeVries and Taylor, 2017); it may stick out."""

    numbers: ClassVar[int] = 2
    size: int = Field(16, ge=1, description="side of the square, in pixels")

    def apply(self, x: Tensor, chance: Tensor, black: Tensor) -> Tensor:
        inside = []
        for side, length in enumerate(x.shape[2:]):
            first = (chance[:, side] * length).long() - self.size // 2
            at = torch.arange(length, device=x.device) - first.unsqueeze(1)
            inside.append((at >= 0) & (at < self.size))
        square = inside[0].unsqueeze(2) & inside[1].unsqueeze(1)
        return x.masked_fill(square.unsqueeze(1), 0.0)


class Augmenter:
    """Several augmentations, one after the other, for batches of a data set."""

    def __init__(self, augmentations: Sequence[Augmentation], dataset: Dataset) -> None:
        self.augmentations, self.dataset = augmentations, dataset

    def draw(self, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
        """The random numbers for so many images: float32 [*shape, numbers]."""
        numbers = sum(one.numbers for one in self.augmentations)
        return random.random((*shape, numbers), dtype=np.float32)

    def apply(self, x: Tensor, chance: Tensor) -> Tensor:
        """Images [..., C, H, W] and their numbers [..., numbers] -> changed copies."""
        shape, shift = x.shape, self.dataset.shift
        black = torch.zeros((), device=x.device) if shift is None else shift
        images, at = x.flatten(0, -4), 0
        chance = chance.to(x.device).flatten(0, -2)
        for one in self.augmentations:
            some = chance[:, at : at + one.numbers]
            images = one.apply(images, some, black.expand(shape[-3]))
            at += one.numbers
        return images.unflatten(0, shape[:-3])
