"""What a model's outputs say: the loss of each example by task, and the predicted class."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from hansa.base.lazy import functional as F

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Loss: TypeAlias = "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]"


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Per-example cross-entropy: outputs [m, C], targets [m] -> [m]."""
    return F.cross_entropy(outputs, targets, reduction="none")


def binary_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Per-example cross-entropy of one score each: outputs [m, 1], targets [m] of 0, 1 -> [m]."""
    scores = outputs.squeeze(-1)
    return F.binary_cross_entropy_with_logits(scores, targets.to(scores), reduction="none")


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Per-example squared error, averaged over outputs: [m, ...], [m, ...] -> [m]."""
    return errors(outputs, targets).square().mean(1)


def errors(outputs: Tensor, targets: Tensor) -> Tensor:
    """Output by output: [m, ...], [m, ...] -> [m, k]; there may be no examples."""
    shape = (len(outputs), math.prod(outputs.shape[1:]))
    return outputs.reshape(shape) - targets.reshape(shape)


LOSSES: dict[str, Loss] = {
    "classification": cross_entropy,
    "binary": binary_cross_entropy,
    "regression": squared_error,
}
"""The loss of each task of a DataSpec."""


def predicted(outputs: Tensor) -> Tensor:
    """The class of each example, int64 [...]: the highest of scores [..., C], or one score > 0."""
    return (outputs[..., 0] > 0).long() if outputs.shape[-1] == 1 else outputs.argmax(-1)
