"""Local SGD: exchange only now and then (Stich, 2019; McMahan et al., 2017).

Any algorithm, but its exchange takes place in every ``period``-th round only; in the others nodes
take their local steps and say nothing. With ``dpsgd`` that is periodic gossip averaging (as in Wang
and Joshi, 2021), with ``centralized`` the local SGD of the papers. An algorithm that ranks numbers
by their change (topk, jwins) sees the change since the last exchange.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.engine import Algorithm, Block, Network, Script
from hansa.engine.block import LocalWork
from hansa.engine.wrapper import INNER, Wrapper
from hansa.learn.gossip.dpsgd import DPSGD
from hansa.learn.gossip.parts import peers_only
from hansa.learn.gossip.skiptrain import TrainingSchedule

if TYPE_CHECKING:
    from torch import Tensor

BEFORE = "local_sgd.before"


@register("local_sgd", paper="Stich", year=2019, url="https://arxiv.org/abs/1805.09767")
class LocalSGD(Wrapper):
    """Another algorithm that exchanges in every so many rounds only."""

    period: int = Field(4, ge=1, description="rounds from one exchange to the next")
    algorithm: Algorithm = Field(DPSGD(), description="what happens in a round with an exchange")

    def check(self, network: Network) -> None:
        inner = self.algorithm
        if inner.own_pace:
            raise ConfigError(INNER, inner.name, "has no rounds to leave out", "dpsgd, jwins, ...")
        if isinstance(inner, LocalSGD | TrainingSchedule):
            fix = f"put {inner.name} around local_sgd"
            fix = "another period" if isinstance(inner, LocalSGD) else fix
            fix += ", or an algorithm such as dpsgd"
            raise ConfigError(INNER, inner.name, "is a schedule itself", fix)
        peers_only(inner, network, INNER)
        super().check(network)

    def start(self, block: Block) -> None:
        block.state[BEFORE] = block.rows.clone()
        super().start(block)

    def adopt(self, block: Block, rows: Tensor) -> None:
        super().adopt(block, rows)
        block.state[BEFORE].copy_(block.rows)

    def round(self, block: Block, t: int) -> Script:
        if t % self.period == 0:
            block.state[BEFORE].copy_(block.rows)
        if (t + 1) % self.period:
            self.algorithm.local(block, t)
            return None
        # The algorithm inside finds the models as they were after the last exchange; its local
        # work then goes on from where they are now.
        onwards = Onwards(block.trainer, block.rows.clone())
        block.rows.copy_(block.state[BEFORE])
        view = replace(block, trainer=cast(LocalWork, onwards))
        return (yield from super().round(view, t))


class Onwards:
    """A trainer that takes up models where they are now, whatever the block's rows are."""

    def __init__(self, trainer: LocalWork, rows: Tensor) -> None:
        self.trainer, self.rows = trainer, rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self.trainer, name)

    def train(self, block: Block, *args: Any) -> None:
        block.rows.copy_(self.rows)
        self.trainer.train(block, *args)
