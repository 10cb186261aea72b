"""Attacks: what attackers send instead of what they should.

An attack is a wrapper around the attackers' messages. They train and listen as all others do, and
only what they send is another thing, so that any algorithm can be attacked. An attack sees what
attackers may see: their own rows and, where it says that they collude, those of all attackers in
the same exchange. Rows of honest nodes it never sees: none of these attacks is omniscient.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from hansa.base.component import Component, register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.base.streams import SHARED, Streams

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Scene:
    """What attackers know when they send.

    Attributes:
        nodes: int64 [k], whose rows these are, a node once for each message of its own.
        round: from 0.
        exchange: which of the round's exchanges it is, from 0.
        kind: the algorithm's word for the message, such as ``model`` or ``update``.
        honest: [c, K], what all attackers would send in this exchange, by node, if they collude;
            None if they do not.
        parties: how many nodes with data the run has.
        attackers: int64, who of them attacks, ascending.
    """

    nodes: np.ndarray
    round: int
    exchange: int
    kind: str
    streams: Streams
    honest: Tensor | None = None
    parties: int = 0
    attackers: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def random(self, k: int) -> np.random.Generator:
        """The stream of the k-th message's sender in this exchange."""
        name = f"attack {self.exchange}"
        return self.streams.own.numpy(name, int(self.nodes[k]), self.round)


class Attack(Component, kind="attack"):
    """Who attacks, and how. Give ``nodes``, or a ``share`` of them that the seed draws."""

    colluding: ClassVar[bool] = False
    """Whether attackers see each other's rows before they send."""

    nodes: tuple[int, ...] = Field((), description="who attacks, by number")
    share: float | None = Field(
        None, gt=0, lt=1, description="so large a part of the nodes attacks, drawn by the seed"
    )

    @model_validator(mode="after")
    def _who(self) -> Self:
        if bool(self.nodes) == (self.share is not None):
            problem = "and nodes: one of the two says who attacks"
            raise ConfigError("share", self.share, problem, "share: 0.2, or nodes: [0, 3]")
        return self

    def check_nodes(self, nodes: int) -> None:
        """Refuse numbers of nodes that there are not.

        Raises:
            ConfigError: names one.
        """
        if self.nodes and not 0 <= min(self.nodes) <= max(self.nodes) < nodes:
            problem, fix = f"there are {nodes} nodes", f"numbers from 0 to {nodes - 1}"
            raise ConfigError("nodes", list(self.nodes), problem, fix)

    def attackers(self, nodes: int, streams: Streams) -> np.ndarray:
        """Ids of the attackers among so many nodes with data, int64, ascending.

        Raises:
            ConfigError: there is no such node, nobody attacks, or everybody does.
        """
        self.check_nodes(nodes)
        if self.share is not None:
            count = round(self.share * nodes)
            if not count:
                problem, fix = f"of {nodes} nodes is nobody", "a larger share, or nodes: [0]"
                raise ConfigError("share", self.share, problem, fix)
            chosen = streams.numpy("attackers", SHARED).choice(nodes, count, replace=False)
        else:
            chosen = np.unique(np.array(self.nodes, dtype=np.int64))
        if len(chosen) == nodes:
            field, value = ("share", self.share) if self.share else ("nodes", list(self.nodes))
            raise ConfigError(field, value, "everybody attacks", "leave somebody honest")
        return np.sort(chosen)

    @abstractmethod
    def forge(self, rows: Tensor, scene: Scene) -> Tensor:
        """What is sent instead of rows [k, K]: as many rows of as many numbers.

        Args:
            rows: what the attackers should send, to read: models among peers, updates to a server.
        """


@register("sign_flip", paper="Li et al.", year=2019, url="https://arxiv.org/abs/1811.03761")
class SignFlip(Attack):
    """The opposite of what should be sent (Li et al., 2019, RSA)."""

    scale: float = Field(1.0, gt=0, description="how many times as large")

    def forge(self, rows: Tensor, scene: Scene) -> Tensor:
        return rows * -self.scale


@register("gaussian", paper="Blanchard et al.", year=2017, url="https://arxiv.org/abs/1703.02757")
class Gaussian(Attack):
    """Noise instead of what should be sent (Blanchard et al., 2017)."""

    scale: float = Field(1.0, gt=0, description="standard deviation of every number")

    def forge(self, rows: Tensor, scene: Scene) -> Tensor:
        noise = [scene.random(k).standard_normal(rows.shape[1]) for k in range(len(rows))]
        return torch.from_numpy(np.stack(noise) * self.scale).to(rows)
