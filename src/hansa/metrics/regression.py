"""How far predicted numbers are from the true ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from hansa.base.component import register
from hansa.base.losses import errors, squared_error
from hansa.base.spec import DataSpec
from hansa.metrics.loss import mean, sum_and_count
from hansa.metrics.metric import Metric

if TYPE_CHECKING:
    from torch import Tensor


@register("rmse")
class RMSE(Metric):
    """Root mean squared error, in the unit of the targets."""

    better: ClassVar[Literal["higher", "lower"]] = "lower"
    tasks = ("regression",)

    def sums(self, outputs: Tensor, targets: Tensor, spec: DataSpec) -> Tensor:
        """The sum of the squared errors, and how many [2]."""
        return sum_and_count(squared_error(outputs, targets))

    def value(self, sums: np.ndarray) -> float:
        """The root of their mean."""
        return math.sqrt(mean(sums))


@register("mae")
class MAE(Metric):
    """Mean absolute error, in the unit of the targets."""

    better: ClassVar[Literal["higher", "lower"]] = "lower"
    tasks = ("regression",)

    def sums(self, outputs: Tensor, targets: Tensor, spec: DataSpec) -> Tensor:
        """The sum of the absolute errors, and how many [2]."""
        return sum_and_count(errors(outputs, targets).double().abs().mean(1))

    def value(self, sums: np.ndarray) -> float:
        """The mean."""
        return mean(sums)
