"""Stochastic gradient ascent on the original data (Wu, Wang et al., IEEE Network 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.forget.case import Case
from hansa.forget.federation import Asking, Federation
from hansa.forget.orders import Answer, Form, order
from hansa.forget.party import Party
from hansa.forget.portions import Held, Portion
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

    def forgotten(self, federation: Federation) -> Asking[list[Held]]:
        return (yield from federation.real(forget=True))

    def remaining(self, federation: Federation) -> Asking[list[Held]]:
        return (yield from federation.real(forget=False))

    def remains(self, case: Case) -> bool:
        return case.examples_remain()

    def term(self, federation: Federation) -> Asking[str]:
        """The pull is told once to those who are to ascend."""
        if not self.ewc:
            return ""
        fisher = yield from fisher_information(federation)
        holders = [one.client for one in (yield from federation.real(forget=True))]
        with federation.ledger.phase("fisher"):
            yield from federation.ask(
                "pull", holders, fisher=fisher, row=federation.row, strength=self.ewc
            )
        return PULL


PULL = "pull"
"""The term of elastic weight consolidation, as clients know it."""


def fisher_information(federation: Federation) -> Asking[Tensor]:
    """Diagonal of the empirical Fisher information [P] of one batch of what remains.

    Each client squares the gradient of each of its examples; the server averages.
    """
    total, count = torch.zeros(federation.network.size, device=federation.row.device), 0
    with federation.ledger.phase("fisher"):
        staying = yield from federation.real(forget=False)
        for answer in (yield from federation.each("fisher", staying, row=federation.row)):
            total += federation.tensor(answer["squares"])
            count += answer["count"]
    return total / count


@order("fisher", squares=Form((None,)), count=Form(mass=True))
def _squares(party: Party, portion: dict[str, Any], row: np.ndarray) -> Answer:
    """Squared gradients [P] of the examples of one batch, added up."""
    holding, network, at = (
        party.holding(Portion.parse(portion)),
        party.network,
        party.to_device(row),
    )
    assert holding is not None  # the server asks those who hold some
    x, y, _ = holding.draw(party.random())
    one = torch.ones(1, device=at.device)
    total = torch.zeros(network.size, device=at.device)
    for k in range(len(y)):
        grad, _ = network.gradient(at, x[k : k + 1], y[k : k + 1], one)
        total += grad.square()
    party.gradients += len(y)
    return {"squares": total, "count": len(y)}


@order("pull")
def _pull(party: Party, fisher: np.ndarray, row: np.ndarray, strength: float) -> Answer:
    """From now on add the pull towards a model [D], weighed by ``fisher`` [P]."""
    weight, size = party.to_device(fisher), len(fisher)
    start = party.to_device(row)[:size]

    def pull(grad: Tensor, at: Tensor) -> None:
        grad.addcmul_(weight, at[:size] - start, value=strength)

    party.terms[PULL] = pull
    return {}
