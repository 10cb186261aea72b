"""A mixture of experts over frozen members (FENS; Allouah et al., NeurIPS 2024, appendix B)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import Lazy, nn
from hansa.ensemble.panel import Panel
from hansa.ensemble.rules import LearnedRule

if TYPE_CHECKING:
    from torch import Tensor

networks = Lazy("hansa.ensemble.networks")  # they need torch


@register("experts", paper="Allouah et al.", year=2024, url="https://arxiv.org/abs/2411.07182")
class Experts(LearnedRule):
    """Mixture of experts: a gate looks at the input and says whom to trust.

    On images of 16 x 16 and more the gate is the published one (two convolutions, three linear
    layers; 62,856 parameters for 20 members on 3 x 32 x 32), else one hidden layer.
    """

    sees_input: ClassVar[bool] = True
    hidden: int = Field(32, ge=1, description="width of the gate where it does not convolve")
    dropout: float = Field(0.5, ge=0, lt=1, description="in the gate that convolves")

    def build(self, panel: Panel, votes: Tensor | None = None) -> nn.Module:
        """The gate and the mixture."""
        if len(panel.shape) == 3 and min(panel.shape[1:]) >= 16:
            return networks.Gated(panel, self._convolving(panel))
        features = math.prod(panel.shape)
        gate = nn.Sequential(
            nn.Flatten(-len(panel.shape)),
            nn.Linear(features, self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, panel.members),
        )
        return networks.Gated(panel, gate)

    def _convolving(self, panel: Panel) -> nn.Module:
        channels, height, width = panel.shape
        left = [((side - 4) // 2 - 4) // 2 for side in (height, width)]
        return nn.Sequential(
            nn.Conv2d(channels, 6, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * left[0] * left[1], 120),
            nn.ReLU(),
            nn.Dropout(self.dropout),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, panel.members),
        )
