"""How much each of n models counts for each of C classes: [n, C], every column sums to 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def label_weights(counts: Tensor | np.ndarray) -> Tensor:
    """Each model's share of the examples of each class (FedKD, Gong et al. 2022; CPFL).

    A class of which nobody has an example is shared equally.

    Args:
        counts: [n, C] examples of each class that each model was trained on.

    Returns:
        p_ic = counts_ic / sum_j counts_jc, float64 [n, C].

    Raises:
        ValueError: the counts are no such matrix, or one is negative or not finite.
    """
    examples = torch.as_tensor(counts, dtype=torch.float64)
    if examples.ndim != 2 or len(examples) == 0:
        raise ValueError(f"counts are [n, C] with n >= 1, not {list(examples.shape)}")
    if not (torch.isfinite(examples).all() and (examples >= 0).all()):
        raise ValueError("counts of examples are finite and not negative")
    total = examples.sum(0)
    return torch.where(
        total > 0, examples / total.clamp(min=torch.finfo(torch.float64).tiny), 1 / len(examples)
    )


def uniform_weights(models: int, classes: int) -> Tensor:
    """1 / n for every model and class, float64 [n, C]."""
    return torch.full((models, classes), 1 / models, dtype=torch.float64)
