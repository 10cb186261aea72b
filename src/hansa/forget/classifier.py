"""One model as a row: its outputs, and the gradient of a weighted loss.

Both as the model is used, without dropout and with the statistics that normalization has gathered:
a batch of one class, or of a single image, has none that are worth anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hansa.base.lazy import torch
from hansa.base.losses import cross_entropy
from hansa.models import ParameterLayout, shared_copy

if TYPE_CHECKING:
    from torch import Tensor, nn

_AT_ONCE = 512


class Classifier:
    """A module that takes its numbers from rows.

    Args:
        module: it is copied.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = shared_copy(module)
        self.layout = ParameterLayout.of(module)
        self._tensors = self.layout.tensors(self.module)
        self.module.eval()
        for part in self.module.modules():
            if isinstance(part, torch.nn.RNNBase):  # cuDNN has no gradients in evaluation mode
                part.dropout = 0.0
                part.train()
        self._trained = [p for p in self.module.parameters() if p.requires_grad]

    @property
    def size(self) -> int:
        """P, how many numbers of a row are trained; they come first."""
        return self.layout.trainable

    def logits(self, row: Tensor, x: Tensor) -> Tensor:
        """Scores [m, C] of inputs [m, ...] by a row [D], without a graph."""
        self.layout.bind_tensors(self._tensors, row)
        with torch.no_grad():
            return torch.cat([self.module(part) for part in x.split(_AT_ONCE)])

    def gradient(self, row: Tensor, x: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, float]:
        """(gradient [P], value) of sum_j weight_j CE_j at a row [D]."""
        self.layout.bind_tensors(self._tensors, row)
        loss = (cross_entropy(self.module(x), y) * weight).sum()
        grads = torch.autograd.grad(loss, self._trained, materialize_grads=True)
        return torch.cat([grad.flatten() for grad in grads]), float(loss.detach())

    def fresh(self, seed: int) -> Tensor:
        """A row [D] of newly drawn numbers, where the module's parts know how to draw some."""
        module = shared_copy(self.module)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            for part in module.modules():
                if callable(reset := getattr(part, "reset_parameters", None)):
                    reset()
        return self.layout.flatten(module)
