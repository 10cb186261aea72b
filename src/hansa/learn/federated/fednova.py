"""FedNova: clients may take different numbers of steps (Wang et al., 2020).

x <- x + tau_eff sum_i p_i Delta_i / A_i with tau_eff = sum_i p_i A_i, where A_i is the L1 norm of
the weights with which client i's gradients enter its update: its number of steps for plain SGD,
more with momentum, and more again with guessed steps. Each client sends it as one number.
"""

from __future__ import annotations

import numpy as np

from hansa.base.component import register
from hansa.engine import Block
from hansa.engine.block import EFFECTIVE_STEPS
from hansa.learn.federated.client_work import Work
from hansa.learn.federated.federated import Federated


@register("fednova", paper="Wang et al.", year=2020, url="https://arxiv.org/abs/2007.07481")
class FedNova(Federated):
    """FedAvg with updates normalized by the local work behind them."""

    def start(self, block: Block) -> None:
        super().start(block)
        block.trainer.weighs_steps = True

    @property
    def figures(self) -> tuple[str, ...]:
        return (*super().figures, EFFECTIVE_STEPS)

    def measure(self, work: Work) -> list[np.ndarray]:
        return [*super().measure(work), np.asarray(work.crew.report[EFFECTIVE_STEPS])]

    def weigh(
        self, weights: np.ndarray, figures: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, float]:
        norms = figures[EFFECTIVE_STEPS]
        return 1 / norms, float((weights * norms).sum())
