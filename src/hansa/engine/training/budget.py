"""What nodes can afford: how many of the steps that a round asks for each of them takes.

A budget is a pure function of a node's id, its number of examples and the round, so that a server
knows before anybody trains what each client will do, and no split of the nodes changes it.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from hansa.base.component import Component, register
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.engine.training.batches import Batching


@dataclass(frozen=True)
class Ask:
    """What a round asks of k nodes.

    Attributes:
        ids: int64 [k].
        sizes: int64 [k], training examples of each.
        steps: int64 [k], the steps that are asked for.
        batching: how examples become steps.
        streams: random streams of the run.
        round: names the streams.
        pace: float64 [k], seconds of training an example, where a clock tells it.
    """

    ids: np.ndarray
    sizes: np.ndarray
    steps: np.ndarray
    batching: Batching
    streams: Streams
    round: int
    pace: np.ndarray | None = None


class Budget(Component, kind="budget"):
    """How many steps nodes can afford in a round."""

    @property
    def timed(self) -> bool:
        """Whether it needs the nodes' pace, and so a clock that models time."""
        return False

    @abstractmethod
    def afford(self, ask: Ask) -> np.ndarray:
        """The most steps that each node can take, int64 [k]; more than is asked for is unused."""

    def steps(self, ask: Ask) -> np.ndarray:
        """The steps that each node takes, int64 [k]: at most those that are asked for."""
        return np.minimum(ask.steps, np.maximum(self.afford(ask), 0)).astype(np.int64)


@register("full")
class Full(Budget):
    """Every node can afford all that is asked for."""

    def afford(self, ask: Ask) -> np.ndarray:
        return ask.steps

    def steps(self, ask: Ask) -> np.ndarray:
        return ask.steps


@register("uniform", paper="Allouah et al.", year=2024, url="https://arxiv.org/abs/2411.07182")
class Uniform(Budget):
    """Anew for each node and round, any number from low to high with equal chances.

    As in the code of FENS (Allouah et al., NeurIPS 2024), which counts it in steps or in passes.
    """

    low: int = Field(1, ge=0, description="the least that a node can afford; 0 = it may sit out")
    high: int = Field(5, ge=1, description="the most that a node can afford")
    unit: Literal["steps", "epochs"] = Field(
        "steps", description="mini-batch steps, or passes over the node's own data"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low > self.high:
            raise ConfigError("low", self.low, f"is above high = {self.high}", "low <= high")
        return self

    def afford(self, ask: Ask) -> np.ndarray:
        drawn = [
            ask.streams.numpy("budget", i, ask.round).integers(self.low, self.high + 1)
            for i in ask.ids
        ]
        affordable = np.array(drawn, dtype=np.int64)
        return (
            affordable * ask.batching.per_pass(ask.sizes) if self.unit == "epochs" else affordable
        )


@register("classes")
class Classes(Budget):
    """Classes of nodes, the same in all rounds, that can afford so many steps or such a share.

    Which node is of which class depends on the seed. Of any first nodes of the run, and so of
    all, nearly the given shares are of each class.
    """

    shares: tuple[float, ...] = Field((0.5, 0.5), description="shares of the nodes; their sum is 1")
    fractions: tuple[float, ...] = Field(
        (1.0, 0.5), description="share of the asked steps that each class takes, rounded up"
    )
    steps_each: tuple[int, ...] | None = Field(
        None, description="steps that each class can afford, instead of fractions"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if min(self.shares, default=0) < 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise ConfigError("shares", self.shares, "do not add up to 1", "such as [0.5, 0.5]")
        name = "fractions" if self.steps_each is None else "steps_each"
        values = self.fractions if self.steps_each is None else self.steps_each
        if len(values) != len(self.shares):
            fix = f"{len(self.shares)} values"
            raise ConfigError(name, values, f"there are {len(self.shares)} shares", fix)
        if min(values) < 0 or max(values) <= 0:
            raise ConfigError(name, values, "nobody can take a step", "none below 0, one above")
        if self.steps_each is None and max(values) > 1:
            raise ConfigError(name, values, "a fraction is above 1", "0 to 1")
        return self

    def afford(self, ask: Ask) -> np.ndarray:
        places = [place(ask.streams.seed, int(i)) for i in ask.ids]
        last = len(self.shares) - 1
        which = np.searchsorted(np.cumsum(self.shares), places, side="right").clip(max=last)
        if self.steps_each is not None:
            return np.asarray(self.steps_each, dtype=np.int64)[which]
        share = np.asarray(self.fractions)[which]
        return np.ceil(share * ask.steps - 1e-9).astype(np.int64)


@register("time")
class Time(Budget):
    """As many steps as fit into so many seconds of the clock at the node's own pace."""

    seconds: float = Field(1.0, gt=0, description="modelled seconds of training a round")

    @property
    def timed(self) -> bool:
        return True

    def afford(self, ask: Ask) -> np.ndarray:
        if ask.pace is None:
            raise ConfigError(
                "train.budget",
                self.name,
                "needs a clock that models time",
                "clock: phones, modelled or devices",
            )
        most = np.where(ask.steps > 0, ask.batching.samples(ask.sizes, ask.steps), 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            examples = np.where(ask.pace > 0, self.seconds / ask.pace * (1 + 1e-9), np.inf)
        return ask.batching.within(ask.sizes, np.minimum(examples, most).astype(np.int64))


_DEPTH = 20


@lru_cache(maxsize=1 << 17)
def place(seed: int, node: int, name: str = "budget class") -> float:
    """A node's place in [0, 1): van der Corput's sequence, scrambled by the seed (Owen, 1995) and
    a name.

    Uniform for each node, as independent draws would be, but any run of first nodes is spread
    evenly: 100 nodes in four equal classes are 25 each, and the split needs no count of nodes.
    """
    streams, fraction, prefix = Streams(seed), 0.0, 0
    for depth in range(_DEPTH):
        bit = node >> depth & 1
        flip = streams.integer(name, prefix, depth) & 1
        fraction += (bit ^ flip) / (2 << depth)
        prefix |= bit << depth
    return fraction
