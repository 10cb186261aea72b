"""In what numbers passes compute.

Mixed precision (Micikevicius et al., ICLR 2018) in bfloat16 (Kalamkar et al., 2019), which has the
range of float32 and so needs no scaling of the loss: rows, gradients, optimizers, losses and what
is sent stay float32; convolutions, matrix products and what lies between them compute in bfloat16.
Sums within an operation, the moments of a normalization among them, are float32 there too.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal, TypeAlias

from hansa.base.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Precision: TypeAlias = Literal["float32", "bfloat16"]


def computing(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Within it, passes on a device compute in this precision; to be entered by one thread.

    Weights that are cast are not kept for a second use in the same pass: torch keeps them in one
    place for all threads, which empty it for each other, and so a gradient's sum over several uses
    would depend on what other threads do.
    """
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def widened(outputs: Tensor) -> Tensor:
    """What a network gave, in float32 where it is bfloat16, for its loss and its metrics."""
    return outputs.float() if outputs.dtype is torch.bfloat16 else outputs
