"""What models are trained to make small."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from hansa.base.component import register
from hansa.base.losses import LOSSES
from hansa.base.spec import DataSpec
from hansa.metrics.metric import Metric

if TYPE_CHECKING:
    from torch import Tensor


def mean(total: np.ndarray, count: int) -> float:
    """Of numbers that come to a total.

    NaN if there is no example; infinite where some number is not one, so that a model which has
    diverged is never the best.
    """
    if not count:
        return math.nan
    return math.inf if math.isnan(total) else float(total) / count


@register("loss")
class MeanLoss(Metric):
    """Mean cross-entropy (nats), or mean squared error of a regression."""

    better: ClassVar[Literal["higher", "lower"]] = "lower"
    tasks = ("classification", "binary", "regression")

    def sums(self, outputs: Tensor, targets: Tensor, spec: DataSpec) -> Tensor:
        """The sum of the losses."""
        return LOSSES[spec.task](outputs, targets).double().sum()

    def value(self, sums: np.ndarray, count: int) -> float:
        """The mean."""
        return mean(sums, count)
