"""Projected gradient ascent (Halimi et al., 2022): away from a client, but not far.

The reference model is the mean of the others' models, w_ref = (w - p_u w_u) / (1 - p_u); with N
equal weights, N/(N-1) w - 1/(N-1) w_u. The leaver ascends from it within an L2 ball whose radius is
a third of the mean distance to fresh random models; then the others recover. IBM's notebook takes
the clients' last models from training; here they make one more round of the run's local work, at
the rate of its last round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.engine.training.optimizers import clip_norm_
from hansa.forget.federation import Federation
from hansa.forget.method import Forgetting
from hansa.forget.original_training import OriginalTraining
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

    def forget(self, federation: Federation) -> tuple[Tensor, dict[str, Any]]:
        network, training = federation.network, OriginalTraining(federation)
        leaving = federation.real(forget=True)
        staying = federation.real(forget=False)
        with federation.ledger.phase("reference"):
            models = training.another_round(federation.row, staying)
            reference = federation.average(models, training.masses(staying))
        random = [
            network.fresh(federation.job.streams.integer("forget.random", k)) for k in range(10)
        ]
        size = network.size
        apart = [float((model[:size] - reference[:size]).norm()) for model in random]
        radius = self.radius * sum(apart) / len(apart)
        rows, moved = [], []
        with federation.ledger.phase("ascent"):
            for holding in leaving:
                row, distance = self._ascend(federation, reference, holding, radius)
                rows.append(row)
                moved.append(distance)
            row = federation.average(rows, [h.mass for h in leaving])
        story = {"radius": radius, "moved": moved, "model_after_ascent": row}
        row, story["recovery"] = self.recovery.run(federation, row, staying)
        return row, story

    def _ascend(
        self, federation: Federation, reference: Tensor, holding: Any, radius: float
    ) -> tuple[Tensor, float]:
        """(a leaver's model [D], its distance from the reference)."""
        network, size = federation.network, federation.network.size
        own, velocity = reference.clone(), torch.zeros_like(reference[:size])
        random = federation.random(holding.client)
        for _ in range(self.steps):
            x, y, weight = holding.draw(random)
            grad, loss = network.gradient(own, x, y, weight)
            federation.ledger.now.sample_gradients += len(y)
            if loss >= self.until * federation.chance:
                break
            clip_norm_(grad.unsqueeze(0), self.clip_norm)
            velocity.mul_(self.momentum).add_(grad)
            own[:size].add_(velocity, alpha=self.lr)
            project_(own[:size], reference[:size], radius)
        return own, float((own[:size] - reference[:size]).norm())


def reference_model(whole: Tensor, one: Tensor, share: float) -> Tensor:
    """The weighted mean of the others' models, of the mean of all and one with its share."""
    return (whole - share * one) / (1 - share)


def project_(row: Tensor, centre: Tensor, radius: float) -> None:
    """Move a row [P] to the nearest point of an L2 ball, in place."""
    away = row - centre
    norm = float(away.norm())
    if norm > radius:
        row.copy_(centre + away * (radius / norm))
