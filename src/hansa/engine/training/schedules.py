"""The learning rate's course over the rounds."""

from __future__ import annotations

import math
from abc import abstractmethod

from pydantic import Field

from hansa.base.component import Component, register


class Schedule(Component, kind="schedule"):
    """A factor on the optimizer's learning rate for each round."""

    @abstractmethod
    def factor(self, round: int, rounds: int) -> float:
        """The factor in ``round`` (from 0) of ``rounds``."""


@register("constant")
class Constant(Schedule):
    """The same rate throughout."""

    def factor(self, round: int, rounds: int) -> float:
        return 1.0


@register("step")
class Step(Schedule):
    """Multiply the rate by gamma at each milestone."""

    milestones: tuple[int, ...] = Field((), description="rounds at which the rate drops")
    gamma: float = Field(0.1, gt=0, description="what it is multiplied by")

    def factor(self, round: int, rounds: int) -> float:
        return self.gamma ** sum(round >= m for m in self.milestones)


@register(
    "cosine", paper="Loshchilov and Hutter", year=2017, url="https://arxiv.org/abs/1608.03983"
)
class Cosine(Schedule):
    """A linear warm-up, then half a cosine down to a floor (Loshchilov and Hutter, 2017)."""

    warmup: int = Field(0, ge=0, description="rounds of linear warm-up")
    floor: float = Field(0.0, ge=0, le=1, description="share of the rate that is left at the end")

    def factor(self, round: int, rounds: int) -> float:
        if round < self.warmup:
            return (round + 1) / (self.warmup + 1)
        span = max(rounds - 1 - self.warmup, 1)
        progress = min((round - self.warmup) / span, 1.0)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * progress)) / 2
