"""FedProx: clients are drawn back to the server's model (Li et al., 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.engine.block import Correction
from hansa.learn.federated.client_work import Work
from hansa.learn.federated.federated import Federated

if TYPE_CHECKING:
    from torch import Tensor


@register("fedprox", paper="Li et al.", year=2020, url="https://arxiv.org/abs/1812.06127")
class FedProx(Federated):
    """FedAvg with mu / 2 |x_i - x|^2 added to the clients' loss."""

    mu: float = Field(0.01, ge=0, description="weight of the proximal term")

    def correction(self, work: Work) -> Correction | None:
        if not self.mu:
            return None

        def pull_back(at: np.ndarray, rows: Tensor, grads: Tensor) -> None:
            grads.add_(rows - work.origin(at), alpha=self.mu)

        return pull_back
