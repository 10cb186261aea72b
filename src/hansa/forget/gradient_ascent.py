"""Stochastic gradient ascent on the original data (Wu, Wang et al., IEEE Network 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.forget.federation import Federation, Hook
from hansa.forget.holdings import Holding
from hansa.forget.quickdrop import AscendAndRecover
from hansa.forget.request import Level

if TYPE_CHECKING:
    from torch import Tensor


@register("sga", paper="Wu et al.", year=2022)
class GradientAscent(AscendAndRecover):
    """Ascent on the original examples, recovery on those that remain."""

    levels: ClassVar[tuple[Level, ...]] = ("class", "client", "sample")
    ewc: float = Field(
        0.0,
        ge=0,
        description="elastic weight consolidation: pull towards the model from before, "
        "weighed by its Fisher information on what remains; spares what is shared",
    )

    def forgotten(self, federation: Federation) -> list[Holding]:
        return list(federation.real(forget=True))

    def remaining(self, federation: Federation) -> list[Holding]:
        return list(federation.real(forget=False))

    def hook(self, federation: Federation) -> Hook | None:
        if not self.ewc:
            return None
        size = federation.network.size
        fisher, start = fisher_information(federation), federation.row[:size].clone()

        def pull(grad: Tensor, row: Tensor) -> None:
            grad.addcmul_(fisher, row[:size] - start, value=self.ewc)

        return pull


def fisher_information(federation: Federation) -> Tensor:
    """Diagonal of the empirical Fisher information [P] of one batch of what remains.

    Each client squares the gradient of each of its examples; the server averages.
    """
    network = federation.network
    total, count = torch.zeros(network.size, device=federation.row.device), 0
    one = torch.ones(1, device=federation.row.device)
    with federation.ledger.phase("fisher"):
        for holding in federation.real(forget=False):
            x, y, _ = holding.draw(federation.random(holding.client))
            for k in range(len(y)):
                grad, _ = network.gradient(federation.row, x[k : k + 1], y[k : k + 1], one)
                total += grad.square()
            count += len(y)
            federation.ledger.now.sample_gradients += len(y)
    return total / count
