"""A network of amounts in a person's unit, whose steps are those of amounts of mean 0 and spread 1.

Rents near 400 have gradients 400 times as large as amounts near 1, and any usual rate diverges. As
in scikit-learn's TransformedTargetRegressor (https://scikit-learn.org), the network inside answers
in standard units; here the way back belongs to the network, so that whoever measures, asks, exports
or serves it has amounts as they were given.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AmountNetwork(nn.Module):
    """[B, *shape] -> [B, 1], ``mean + spread * network(x)``.

    A loss of its answers has ``spread`` squared times the loss of standard ones, and so its
    gradients; the way back divides them by that again. It is in float32 where the network computes
    in bfloat16, of which 4000 and 4015 are one number.

    Args:
        network: answers in standard units.
        mean, spread: of the training amounts.
    """

    def __init__(self, network: nn.Module, mean: float, spread: float) -> None:
        super().__init__()
        self.network, self.mean, self.spread = network, mean, spread

    def forward(self, x: Tensor) -> Tensor:
        """Amounts in the person's unit."""
        standard: Tensor = self.network(x)
        standard = standard.float() if standard.dtype is torch.bfloat16 else standard
        if torch.is_grad_enabled():
            held = standard.detach()
            standard = held + (standard - held) / self.spread**2
        return self.mean + self.spread * standard
