"""SkipTrain: rounds without training, which cost next to nothing (Biswas et al., 2024).

arXiv 2407.01283. All nodes know (Gamma_train, Gamma_sync) and train in the rounds
t mod (Gamma_train + Gamma_sync) < Gamma_train; in all rounds they share and average. The paper
does so on D-PSGD; here a schedule goes round *any* algorithm: it says who may train in a round
and leaves all else, the inner algorithm's own script, as it is.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.engine import Algorithm, Block, Network, Script
from hansa.engine.wrapper import INNER, Wrapper
from hansa.learn.gossip.dpsgd import DPSGD
from hansa.learn.gossip.parts import peers_only


class TrainingSchedule(Wrapper):
    """Who trains in a round of another algorithm; the others only take part in its exchange."""

    algorithm: Algorithm = Field(
        DPSGD(), description="what the nodes do and say, in rounds with and without training"
    )

    @abstractmethod
    def trains(self, block: Block, t: int, able: np.ndarray) -> np.ndarray:
        """Which of the nodes that are ``able`` train in round t: bool [n], once a round."""

    def check(self, network: Network) -> None:
        inner = self.algorithm
        if isinstance(inner, TrainingSchedule):
            problem, fix = "is a schedule itself", "dpsgd, jwins, topk, ..."
            raise ConfigError(INNER, type(inner).name, problem, fix)
        peers_only(inner, network, INNER)
        super().check(network)

    def round(self, block: Block, t: int) -> Script:
        """The inner algorithm's round, in which only some train."""
        before = block.awake
        block.awake = self.trains(block, t, block.able(t))
        try:
            return (yield from super().round(block, t))
        finally:
            block.awake = before


@register("skiptrain", paper="Biswas et al.", year=2024, url="https://arxiv.org/abs/2407.01283")
class SkipTrain(TrainingSchedule):
    """All nodes train for some rounds, then only synchronize for some, and so on."""

    train_rounds: int = Field(4, ge=1, description="Gamma_train: rounds with training, in a row")
    sync_rounds: int = Field(4, ge=0, description="Gamma_sync: rounds without, in a row")

    def slot(self, t: int) -> bool:
        """Whether round t is one for training."""
        return t % (self.train_rounds + self.sync_rounds) < self.train_rounds

    def slots(self, rounds: int) -> float:
        """T_train: the expected training rounds of a run, as in the paper not rounded."""
        return rounds * self.train_rounds / (self.train_rounds + self.sync_rounds)

    def working(self, clients: int) -> float:
        return super().working(clients) * self.slots(1)

    def trains(self, block: Block, t: int, able: np.ndarray) -> np.ndarray:
        return able & self.slot(t)
