"""Training on a budget: nodes that can pay for so many rounds of training (Biswas et al., 2024).

Node i has a budget of tau_i rounds. *Greedy* spends it as soon as it can; D-PSGD under budgets is
this. *SkipTrain-constrained* tosses a coin in each training slot of SkipTrain, with
p_i = min(tau_i / T_train, 1), so that the budget lasts about as long as the run; p_i is fixed.
T is that of the run file, so a run that is resumed with more rounds goes on with other chances.
With T_train = T Gamma_train / (Gamma_train + Gamma_sync) a run that ends within a cycle may have
one training slot or some more than T_train.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.engine import Block, Network
from hansa.engine.time.battery import BATTERY_ROUNDS
from hansa.learn.gossip.skiptrain import SkipTrain, TrainingSchedule


class Budgeted(TrainingSchedule):
    """A schedule in which each node trains in so many rounds at most."""

    usual: ClassVar[dict[str, Any]] = {"clock": {"name": "phones", "battery_share": 0.00002}}
    budget: int | tuple[int, ...] | None = Field(
        None,
        description="tau: training rounds that a node can pay for, one number or one a node; "
        "none = what its battery pays for (clock: {name: phones, battery_share: 0.1})",
    )

    @abstractmethod
    def wants(self, block: Block, t: int) -> np.ndarray:
        """Which nodes would train in round t while they can pay: bool [n]."""

    def check(self, network: Network) -> None:
        super().check(network)
        budget = self.budget
        if isinstance(budget, tuple) and len(budget) != network.nodes:
            n = network.nodes
            raise ConfigError(
                "budget", budget, f"{len(budget)} budgets for {n} nodes", f"one number, or {n}"
            )
        least = min(budget) if isinstance(budget, tuple) else budget
        if least is not None and least < 1:
            raise ConfigError(
                "budget", budget, f"{least} is below one round", "1 or more rounds a node"
            )

    def start(self, block: Block) -> None:
        super().start(block)
        left = block.state.get(BATTERY_ROUNDS)
        if isinstance(self.budget, int):
            left = torch.full((len(block),), self.budget, dtype=torch.int64)
        elif self.budget is not None:
            left = torch.tensor(self.budget, dtype=torch.int64)[block.ids]
        if left is None:
            raise ConfigError(
                "budget",
                None,
                "there is no budget and no battery to take it from",
                "a number of rounds, or clock: {name: phones, battery_share: 0.1}",
            )
        block.state["budget.whole"] = left.clone()
        block.state["budget.left"] = left.clone()

    def trains(self, block: Block, t: int, able: np.ndarray) -> np.ndarray:
        left = block.state["budget.left"].numpy()
        chosen: np.ndarray = able & self.wants(block, t) & (left > 0)
        left -= chosen
        block.report["budget_left"] = left.astype(np.float64)
        return chosen


@register("greedy", paper="Biswas et al.", year=2024, url="https://arxiv.org/abs/2407.01283")
class Greedy(Budgeted):
    """Train in every round until the budget is gone, then only synchronize."""

    def wants(self, block: Block, t: int) -> np.ndarray:
        return np.ones(len(block), dtype=bool)


@register(
    "skiptrain_constrained",
    paper="Biswas et al.",
    year=2024,
    url="https://arxiv.org/abs/2407.01283",
)
class SkipTrainConstrained(Budgeted, SkipTrain):
    """SkipTrain in whose training rounds a node trains with a chance that fits its budget."""

    def chances(self, budget: np.ndarray, rounds: int) -> np.ndarray:
        """p_i = min(tau_i / T_train, 1) in a run of so many rounds."""
        chances: np.ndarray = np.minimum(budget / self.slots(rounds), 1.0)
        return chances

    def wants(self, block: Block, t: int) -> np.ndarray:
        if not self.slot(t):
            return np.zeros(len(block), dtype=bool)
        chances = self.chances(block.state["budget.whole"].numpy(), block.rounds)
        coins = [block.streams.own.numpy("skiptrain", int(i), t).random() for i in block.ids]
        return np.array(coins) < chances
