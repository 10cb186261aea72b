"""SCAFFOLD: control variates against client drift (Karimireddy et al., 2020, option II).

The server's control c is an estimate of the average gradient, a client's c_i of its own; local
steps follow g - c_i + c. After K steps of rate eta a client's control becomes
c_i - c + (x - y_i) / (K eta), and the server adds the mean change over all N clients (weighted as
their updates are, so that c stays the average of the c_i in the objective's weights). The controls
travel beside the models, so a round costs twice FedAvg's bytes; a client's own stays with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.engine import Block, Network
from hansa.engine.block import EFFECTIVE_STEPS, Correction
from hansa.learn.federated.client_work import Work
from hansa.learn.federated.federated import Federated
from hansa.learn.federated.sums import Sums

if TYPE_CHECKING:
    from torch import Tensor

CONTROL = "control"


@register("scaffold", paper="Karimireddy et al.", year=2020, url="https://arxiv.org/abs/1910.06378")
class Scaffold(Federated):
    """FedAvg with control variates."""

    answer_names: ClassVar[tuple[str, ...]] = (CONTROL,)
    tolerates_loss: ClassVar[bool] = False
    loss_breaks: ClassVar[str] = (
        "keeps a client's control even where its change was lost on the way to the server, whose "
        "own is no longer the mean of theirs"
    )

    def check(self, network: Network) -> None:
        super().check(network)
        if self.global_momentum:
            raise ConfigError(
                "global_momentum",
                self.global_momentum,
                "the server's control already gives clients its direction",
                "0",
            )

    def start(self, block: Block) -> None:
        super().start(block)
        block.trainer.weighs_steps = True
        size = block.trainer.layout.trainable
        block.kept["scaffold.control"] = torch.zeros(
            len(block.residents), size, device=block.rows.device
        )

    def tells(self, block: Block) -> dict[str, Tensor]:
        return {CONTROL: block.kept["scaffold.control"]}

    def correction(self, work: Work) -> Correction:
        shift = work.heard(CONTROL) - self._own(work)

        def follow(at: np.ndarray, rows: Tensor, grads: Tensor) -> None:
            grads.add_(shift[torch.from_numpy(at)])

        return follow

    def answers(self, work: Work) -> dict[str, Tensor]:
        crew = work.crew
        moved = work.origin(np.arange(len(crew))) - crew.rows[:, : work.parameters]
        steps = torch.from_numpy(crew.report[EFFECTIVE_STEPS]).to(moved).unsqueeze(1)
        change = moved / (steps * crew.trainer.learning_rate(work.t)) - work.heard(CONTROL)
        self.shelf(crew, CONTROL).put(crew.ids, self._own(work) + change)
        return {CONTROL: change}

    def absorb(self, block: Block, row: int, sums: Sums, share: float) -> None:
        block.kept["scaffold.control"][row].add_(sums.answers[row][CONTROL], alpha=share)

    def _own(self, work: Work) -> Tensor:
        own = self.shelf(work.crew, CONTROL).take(work.crew.ids, work.parameters)
        return own.to(work.crew.rows.device)
