"""PGD-cw: rows lies by gradient steps through the rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.infer.robust.attacks.black_box import PAPER
from hansa.infer.robust.attacks.liars import InferenceAttack, LiarScene
from hansa.infer.robust.set_training import ascend

if TYPE_CHECKING:
    from torch import Tensor

_QUERIES = 512  # at a time


@register("pgd_cw", **PAPER)
class PGD(InferenceAttack):
    """Signed gradient steps on the liars' logits, against Carlini and Wagner's margin of 0.1.

    The best step of each query counts; the published code takes the last.
    """

    steps: int = Field(50, ge=1, description="how many steps")
    step_size: float = Field(0.1, gt=0, description="length of a step, in logits")
    bpda: bool = Field(
        True,
        description="gradients pass a trim or a median as they would a mean (Athalye et al., "
        "2018); false: the rule's own gradients",
    )

    def forge(self, probabilities: Tensor, scene: LiarScene) -> Tensor:
        """Softmax rows; the first logits are drawn from 0..1."""
        m, f = scene.liars.shape
        if not f:
            return probabilities
        rng = scene.streams.numpy("pgd")
        shape = (m, f, probabilities.shape[-1])
        begin = torch.from_numpy(rng.random(shape, dtype=np.float32)).to(probabilities)
        lies = []
        with torch.enable_grad():
            for some in torch.arange(m).split(_QUERIES):
                rule = scene.aggregator
                scores = rule.under(probabilities[some], scene.liars[some], straight=self.bpda)
                lies.append(
                    ascend(
                        scores,
                        scene.labels[some],
                        begin[some],
                        self.steps,
                        self.step_size,
                        rule.shares,
                    )
                )
        return scene.send(probabilities, torch.cat(lies))
