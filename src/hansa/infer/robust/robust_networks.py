"""Clients' networks under a rule, as one network; loaded when one is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from hansa.infer.robust.score_aggregator import ScoreAggregator

_LEAST = 1e-12


class UnderRule(nn.Module):
    """Model inputs [m, *shape] -> logarithms of the shares [m, K] that a rule answers with."""

    def __init__(self, networks: Sequence[nn.Module], rule: ScoreAggregator) -> None:
        super().__init__()
        self.networks, self.rule = nn.ModuleList(networks), rule
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        scores = torch.stack([network(x) for network in self.networks], dim=1)
        single = scores.shape[-1] == 1
        if single:
            scores = torch.cat([torch.zeros_like(scores), scores], -1)
        shares = self.rule.shares(self.rule.scores(torch.softmax(scores, -1)))
        logs: Tensor = shares.clamp(min=_LEAST).log()
        return logs[:, 1:] - logs[:, :1] if single else logs
