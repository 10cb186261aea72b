"""Attacks by who knows only the liars' own rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.infer.robust.attacks.liars import InferenceAttack, LiarScene, one_hot, second

if TYPE_CHECKING:
    from torch import Tensor

PAPER: Any = {
    "paper": "Robust federated inference",
    "year": 2025,
    "url": "https://arxiv.org/abs/2510.00310",
}


@register("logit_flip", **PAPER)
class LogitFlip(InferenceAttack):
    """The own logits, negated and scaled: what was likeliest becomes least likely."""

    scale: float = Field(1.0, gt=0, description="how many times as large")

    def forge(self, probabilities: Tensor, scene: LiarScene) -> Tensor:
        """Softmax of -scale log p; logits are known up to a constant that makes no difference."""
        own = scene.own(probabilities)
        logits = own.clamp(min=torch.finfo(own.dtype).tiny).log()
        return scene.send(probabilities, torch.softmax(-self.scale * logits, -1))


@register("sia_blackbox", **PAPER)
class SecondClassBlind(InferenceAttack):
    """All on the second most likely class (strongest inverted attack), by the own row alone."""

    colluding: bool = Field(
        False, description="by the second class of the rule applied to the liars' rows together"
    )

    def forge(self, probabilities: Tensor, scene: LiarScene) -> Tensor:
        """One-hot rows. Where the rule needs more rows than liars have, they take their mean."""
        own = scene.own(probabilities)
        classes = own.shape[-1]
        if not own.shape[1]:
            return probabilities
        if not self.colluding:
            return scene.send(probabilities, one_hot(second(own), classes))
        enough = own.shape[1] >= scene.aggregator.least
        scores = scene.aggregator.scores(own) if enough else own.mean(1)
        return scene.send(probabilities, one_hot(second(scores), classes))
