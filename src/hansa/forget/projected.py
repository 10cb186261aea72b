"""Projected gradient ascent (Halimi et al., 2022): away from a client, but not far.

The reference model is the mean of the others' models, w_ref = (w - p_u w_u) / (1 - p_u); with N
equal weights, N/(N-1) w - 1/(N-1) w_u. The leaver ascends from it within an L2 ball whose radius is
a third of the mean distance to fresh random models; then the others recover. IBM's notebook takes
the clients' last models from training; here they make one more round of the run's local work, at
the rate of its last round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.engine.training.optimizers import clip_norm_
from hansa.forget.federation import Asking, Federation
from hansa.forget.method import Forgetting
from hansa.forget.orders import Answer, Form, order
from hansa.forget.original_training import OriginalTraining
from hansa.forget.party import Party
from hansa.forget.portions import Portion
from hansa.forget.recovery import Recovery
from hansa.forget.request import Level

if TYPE_CHECKING:
    from torch import Tensor


@register("pgd", paper="Halimi et al.", year=2022, url="https://arxiv.org/abs/2207.05521")
class ProjectedAscent(Forgetting):
    """Ascent within a ball around the other clients' mean model, then recovery without them."""

    levels: ClassVar[tuple[Level, ...]] = ("client",)
    lr: float = Field(0.01, gt=0, description="step size of the ascent")
    momentum: float = Field(0.9, ge=0, lt=1, description="of the ascent")
    clip_norm: float = Field(5.0, gt=0, description="largest norm of its gradients")
    steps: int = Field(20, ge=1, description="steps of the ascent at most")
    until: float = Field(
        1.0, gt=0, description="it ends when the cross-entropy is this many times log K"
    )
    radius: float = Field(
        1 / 3, gt=0, description="of the ball, in mean distances to ten fresh random models"
    )
    recovery: Recovery = Field(
        Recovery(rounds=2, rechecks=0), description="by the others, on their real examples"
    )

    def forget(self, federation: Federation) -> Asking[tuple[Tensor, dict[str, Any]]]:
        network, training = federation.network, OriginalTraining(federation)
        leaving = yield from federation.real(forget=True)
        staying = yield from federation.real(forget=False)
        with federation.ledger.phase("reference"):
            models = yield from training.another_round(federation.row, staying)
            reference = federation.average(models, training.masses(staying))
        random = [
            network.fresh(federation.plan.streams.integer("forget.random", k)) for k in range(10)
        ]
        size = network.size
        apart = [float((model[:size] - reference[:size]).norm()) for model in random]
        radius = self.radius * sum(apart) / len(apart)
        with federation.ledger.phase("ascent"):
            answers = yield from federation.each(
                "projected", leaving, row=reference, radius=radius, steps=self.steps, lr=self.lr,
                momentum=self.momentum, clip_norm=self.clip_norm,
                limit=self.until * federation.chance,
            )  # fmt: skip
            rows = [federation.tensor(answer["row"]) for answer in answers]
            row = federation.average(rows, [one.mass for one in leaving])
        moved = [answer["moved"] for answer in answers]
        story = {"radius": radius, "moved": moved, "model_after_ascent": row}
        row, story["recovery"] = yield from self.recovery.run(federation, row, staying)
        return row, story


@order("projected", row=Form(("D",)), moved=Form())
def _ascend(
    party: Party,
    portion: dict[str, Any],
    row: np.ndarray,
    radius: float,
    steps: int,
    lr: float,
    momentum: float,
    clip_norm: float,
    limit: float,
) -> Answer:
    """A leaver's model [D], and its distance from the reference that it began with."""
    network, size = party.network, party.network.size
    reference, holding = party.to_device(row), party.holding(Portion.parse(portion))
    assert holding is not None  # the server asks those who hold some
    own, velocity = reference.clone(), torch.zeros_like(reference[:size])
    random = party.random()
    for _ in range(steps):
        x, y, weight = holding.draw(random)
        grad, loss = network.gradient(own, x, y, weight)
        party.gradients += len(y)
        if loss >= limit:
            break
        clip_norm_(grad.unsqueeze(0), clip_norm)
        velocity.mul_(momentum).add_(grad)
        own[:size].add_(velocity, alpha=lr)
        project_(own[:size], reference[:size], radius)
    return {"row": own, "moved": float((own[:size] - reference[:size]).norm())}


def reference_model(whole: Tensor, one: Tensor, share: float) -> Tensor:
    """The weighted mean of the others' models, of the mean of all and one with its share."""
    return (whole - share * one) / (1 - share)


def project_(row: Tensor, centre: Tensor, radius: float) -> None:
    """Move a row [P] to the nearest point of an L2 ball, in place."""
    away = row - centre
    norm = float(away.norm())
    if norm > radius:
        row.copy_(centre + away * (radius / norm))
