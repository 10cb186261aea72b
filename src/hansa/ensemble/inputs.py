"""Inputs of many examples, whole in memory or made a batch at a time, and what one looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hansa.base.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Examples:
    """m examples that are turned into model input when they are needed.

    A public set of 100,000 images takes a fourth of the memory as bytes; with a data set of
    ours: ``Examples(len(split), lambda index: data.gather(split, index)[0])``.

    Attributes:
        count: m.
        at: int64 [b] -> the inputs of these examples [b, ...].
        device: where ``at`` expects its index: the device of the data set.
    """

    count: int
    at: Callable[[Tensor], Tensor]
    device: torch.device | str = "cpu"

    def take(self, index: Tensor) -> Tensor:
        """The inputs of the examples at ``index``, which may be on any device."""
        return self.at(index.to(self.device))

    @classmethod
    def of(cls, inputs: Tensor | Examples) -> Examples:
        """Examples as they are, or those of a tensor [m, ...]."""
        if isinstance(inputs, Examples):
            return inputs
        return cls(len(inputs), lambda index: inputs.index_select(0, index), inputs.device)


@dataclass(frozen=True)
class InputForm:
    """What an input of the models looks like, without any example of it.

    Attributes:
        shape: of one input: [C, H, W] of an image, [F] of a table's row.
        low, high: the smallest and largest pixel of each channel, [C], as the models receive it;
            None where values have no limits (tables).
    """

    shape: tuple[int, ...]
    low: Tensor | None = None
    high: Tensor | None = None

    def __post_init__(self) -> None:
        if len(self.shape) not in (1, 3):
            raise ValueError(f"inputs are images [C, H, W] or rows [F], not {list(self.shape)}")
        if len(self.shape) == 3 and (self.low is None or self.high is None):
            raise ValueError("images need the limits of their pixels")

    @property
    def span(self) -> Tensor:
        """What a change of "1" means: the range of a pixel [C, 1, 1], or 1 in a table."""
        if self.low is None or self.high is None:
            return torch.ones(())
        return (self.high - self.low).view(-1, 1, 1)
