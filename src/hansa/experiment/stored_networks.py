"""A network with all that comes before and after it; loaded when a graph of one is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from hansa.data.signature import Signature


class Stored(nn.Module):
    """Reads inputs as they are stored, and says what they mean.

    Args:
        network: reads ``stored * scale + shift``.
    """

    scale: Tensor | None
    shift: Tensor | None

    def __init__(self, network: nn.Module, signature: Signature) -> None:
        super().__init__()
        self.network, spec = network, signature.spec
        self.classes, self.single = bool(spec.classes), spec.outputs == 1
        self.clip = tuple(spec.scale)
        wide = (-1, 1, 1) if spec.kind == "image" else (-1,)
        for name in ("scale", "shift"):
            value = getattr(signature, name)
            self.register_buffer(name, None if value is None else value.reshape(wide).clone())

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Scores and probabilities [B, K], or amounts [B, 1]."""
        if self.scale is not None and self.shift is not None:
            x = x * self.scale + self.shift
        scores: Tensor = self.network(x)
        if not self.classes:
            return scores.clamp(*self.clip) if self.clip else scores
        whole = torch.cat([torch.zeros_like(scores), scores], -1) if self.single else scores
        return whole, torch.softmax(whole, -1)
