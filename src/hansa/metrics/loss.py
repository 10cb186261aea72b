"""What models are trained to make small."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.base.losses import LOSSES
from hansa.base.spec import DataSpec
from hansa.metrics.metric import Metric

if TYPE_CHECKING:
    from torch import Tensor


def sum_and_count(each: Tensor) -> Tensor:
    """Float64 [2]: the sum of one number an example [m], and m."""
    each = each.double()
    return torch.stack([each.sum(), each.new_tensor(len(each))])


def mean(sums: np.ndarray) -> float:
    """The mean, from what :func:`sum_and_count` gives.

    NaN if there is no example; infinite where some number is not one, so that a model which has
    diverged is never the best.
    """
    total, count = sums.tolist()
    if not count:
        return math.nan
    return math.inf if math.isnan(total) else total / count


@register("loss")
class MeanLoss(Metric):
    """Mean cross-entropy (nats), or mean squared error of a regression."""

    better: ClassVar[Literal["higher", "lower"]] = "lower"
    tasks = ("classification", "binary", "regression")

    def sums(self, outputs: Tensor, targets: Tensor, spec: DataSpec) -> Tensor:
        """The sum of the losses, and how many [2]."""
        return sum_and_count(LOSSES[spec.task](outputs, targets))

    def value(self, sums: np.ndarray) -> float:
        """The mean."""
        return mean(sums)
