"""An ensemble as one network; loaded when one is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hansa.ensemble import rows_of

if TYPE_CHECKING:
    from hansa.combine.ensemble.store import Loaded


class Whole(nn.Module):
    """Model inputs [m, *shape] -> the scores [m, C] that the rule makes of all members'."""

    def __init__(self, ensemble: Loaded) -> None:
        super().__init__()
        self.members = nn.ModuleList(ensemble.members)
        self.rule, self.sees_input = ensemble.rule, ensemble.sees_input
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        logits = torch.stack([member(x) for member in self.members])
        scores: Tensor = self.rule(rows_of(logits, x if self.sees_input else None))
        return scores
