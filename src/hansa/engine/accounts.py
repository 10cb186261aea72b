"""What differential privacy has cost the nodes of a block, and when nothing more may be spent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from hansa.base.errors import RunError
from hansa.base.lazy import torch
from hansa.engine.block import Block
from hansa.engine.exchange.exchange import Share
from hansa.engine.training.trainer import Trainer
from hansa.privacy import accounting
from hansa.privacy.accounting import ORDERS
from hansa.privacy.privacy import Privacy

EPSILON = "epsilon"
"""In a block's report: what each node (or its server, for its clients) has spent."""
NOISE = "noise_multiplier"
"""In a block's report: the standard deviation of its noise, in clips."""
RELEASES = "privacy.releases"
"""In a block's state: how often each node has let something noised out, int64 [n]."""
COST = "privacy.cost"
"""In what servers keep: what their clients have spent, [r, orders] of the accountant's; in the
facts of their block, as :data:`NOISE` and :data:`RATE` of each: what a round costs."""
ACCOUNTS = "privacy.accounts"
"""The fact of a block that keeps its accounts, where nodes count what they let out."""
FAN = "privacy.fan"
"""The fact of a block that says how often a node lets something out in a round; by default once."""
RATE = "sampling_rate"
"""In a block's report: the chance of one to be drawn, where that is accounted for."""
_ROUND = "privacy.round"


@dataclass(frozen=True)
class Accounts(ABC):
    """The accounts of a run.

    Attributes:
        agrees: whether all blocks are one owner's and so end a run together.
    """

    privacy: Privacy
    rounds: int
    agrees: bool = True

    def start(self, block: Block) -> None:  # noqa: B027 - steps are counted anyhow
        """Open accounts in a block that begins."""

    @abstractmethod
    def figures(self, block: Block) -> dict[str, np.ndarray]:
        """:data:`EPSILON` and :data:`NOISE` so far, float64 [n]; NaN for who has none."""

    @abstractmethod
    def goes_on(self, block: Block) -> bool:
        """Whether somebody here can afford another round."""

    def ask(self, block: Block) -> Share | None:
        """What blocks tell each other after a round; None: no budget can end the run."""
        if self.privacy.limit is None or not self.agrees:
            return None
        return Share({"privacy": np.array([self.goes_on(block)])})

    def verdict(self, told: dict[str, np.ndarray]) -> str:
        """Why the run ends, of what all told; empty: it goes on."""
        limit = self.privacy.limit
        return "" if self.enough(told["privacy"]) else f"another round would pass epsilon {limit:g}"

    def enough(self, going: np.ndarray) -> bool:
        """Whether a run goes on in which these blocks can, bool [blocks]."""
        return bool(going.all())


class StepAccounts(Accounts):
    """Of single examples: every local step costs its node; who has spent all trains no more."""

    def figures(self, block: Block) -> dict[str, np.ndarray]:
        sizes, done = self._of(block)
        private = self._trainer(block).private
        assert private is not None
        known = [private.terms(size) if size else None for size in sizes.tolist()]
        return {
            EPSILON: private.epsilons(sizes, done),
            NOISE: np.array([np.nan if one is None else one.noise for one in known]),
            RATE: np.array([np.nan if one is None else one.rate for one in known]),
        }

    def goes_on(self, block: Block) -> bool:
        sizes, done = self._of(block)
        private = self._trainer(block).private
        assert private is not None
        return bool((private.affordable(sizes, done) > 0).any())

    def verdict(self, told: dict[str, np.ndarray]) -> str:
        why = "every node has spent its privacy: another step would pass epsilon "
        return "" if self.enough(told["privacy"]) else f"{why}{self.privacy.limit:g}"

    def enough(self, going: np.ndarray) -> bool:
        return bool(going.any())

    def _trainer(self, block: Block) -> Trainer:
        assert isinstance(block.trainer, Trainer)
        return block.trainer

    def _of(self, block: Block) -> tuple[np.ndarray, np.ndarray]:
        return block.own_sizes, block.state["steps"].numpy() + block.before


class ReleaseAccounts(Accounts):
    """Of whole nodes: every message that leaves with noise costs its sender."""

    def noise(self, block: Block) -> float:
        """The noise multiplier: for so many releases a round as :data:`FAN` says, where an epsilon
        is asked for."""
        return self.privacy.multiplier(1.0, self.rounds * block.facts.get(FAN, 1))

    def start(self, block: Block) -> None:
        block.facts[ACCOUNTS] = self
        for name in (RELEASES, _ROUND):
            block.state[name] = torch.zeros(len(block), dtype=torch.int64)

    def figures(self, block: Block) -> dict[str, np.ndarray]:
        made, noise = block.state[RELEASES].numpy(), self.noise(block)
        cost, delta = self.privacy.cost(noise), self.privacy.risk
        counts, which = np.unique(made, return_inverse=True)
        spent = np.array([accounting.epsilon(n * cost, delta) if n else 0.0 for n in counts])
        client = block.ids < block.clients
        return {
            EPSILON: np.where(client, spent[which], np.nan),
            NOISE: np.where(client, noise, np.nan),
        }

    def goes_on(self, block: Block) -> bool:
        made, last = block.state[RELEASES].numpy(), block.state[_ROUND].numpy()
        each = (made - last).max(initial=0)  # of this round; the next is taken to be as dear
        block.state[_ROUND].copy_(block.state[RELEASES])
        limit = self.privacy.limit
        assert limit is not None
        most = accounting.most(self.privacy.cost(self.noise(block)), self.privacy.risk, limit)
        return int(made.max(initial=0)) + int(each) <= most

    def release(self, block: Block, at: np.ndarray) -> None:
        """Count a release of each of the nodes at these positions, one for each mention.

        Raises:
            RunError: somebody would pass the limit.
        """
        made = block.state[RELEASES].numpy()
        np.add.at(made, at, 1)
        limit = self.privacy.limit
        if limit is None:
            return
        most = accounting.most(self.privacy.cost(self.noise(block)), self.privacy.risk, limit)
        if made.max(initial=0) > most:
            node = int(block.ids[int(np.argmax(made))])
            problem = f"would pass epsilon {limit:g} with its next message"
            fix = "a larger epsilon (or budget), more noise, or fewer rounds"
            raise RunError(f"{problem}; set {fix}", node=node)


class ServerAccounts(Accounts):
    """Of whole clients: every noised sum costs a server's clients.

    :data:`NOISE`, :data:`RATE` and :data:`COST` (of a round) are facts of a block, a row a server.
    """

    def start(self, block: Block) -> None:
        shape = (len(block.residents), len(ORDERS))
        block.kept[COST] = torch.zeros(shape, dtype=torch.float64)

    def figures(self, block: Block) -> dict[str, np.ndarray]:
        found = {name: np.full(len(block), np.nan) for name in (EPSILON, NOISE, RATE)}
        costs = block.kept[COST].numpy()
        found[EPSILON][block.residents] = [
            accounting.epsilon(cost, self.privacy.risk) for cost in costs
        ]
        for name in (NOISE, RATE):
            found[name][block.residents] = block.facts[name]
        return found

    def goes_on(self, block: Block) -> bool:
        costs, limit = block.kept[COST].numpy(), self.privacy.limit
        assert limit is not None
        following = costs + block.facts[COST]
        return all(accounting.epsilon(cost, self.privacy.risk) <= limit for cost in following)


KINDS: dict[str, type[Accounts]] = {
    "example": StepAccounts,
    "local": ReleaseAccounts,
    "distributed": ReleaseAccounts,
    "central": ServerAccounts,
}


def accounts_of(privacy: Privacy | None, rounds: int, agrees: bool) -> Accounts | None:
    """The accounts of a run, if it has any."""
    return None if privacy is None else KINDS[privacy.way](privacy, rounds, agrees)


def summed_up(privacy: Privacy, values: dict[str, np.ndarray]) -> dict[str, Any]:
    """What a run's nodes have come to: the highest epsilon, and their noise."""
    spent = values[EPSILON][~np.isnan(values[EPSILON])]
    said: dict[str, Any] = privacy.facts()
    if len(spent):
        said |= {"epsilon": float(spent.max()), "epsilon_mean": float(spent.mean())}
    for name, short in ((NOISE, "noise"), (RATE, RATE)):
        found = values.get(name, np.zeros(0))
        found = found[~np.isnan(found)]
        if len(found):
            low, high = float(found.min()), float(found.max())
            said[short] = low if low == high else {"min": low, "max": high}
    return said
