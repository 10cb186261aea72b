"""How far predicted numbers are from the true ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from hansa.base.component import register
from hansa.base.losses import errors, squared_error
from hansa.base.spec import DataSpec
from hansa.metrics.loss import mean
from hansa.metrics.metric import Metric

if TYPE_CHECKING:
    from torch import Tensor


@register("rmse")
class RMSE(Metric):
    """Root mean squared error, in the unit of the targets."""

    label = "RMSE"
    better: ClassVar[Literal["higher", "lower"]] = "lower"
    tasks = ("regression",)

    def sums(self, outputs: Tensor, targets: Tensor, spec: DataSpec) -> Tensor:
        """The sum of the squared errors."""
        return squared_error(outputs, targets).double().sum()

    def value(self, sums: np.ndarray, count: int) -> float:
        """The root of their mean."""
        return math.sqrt(mean(sums, count))


@register("mae")
class MAE(Metric):
    """Mean absolute error, in the unit of the targets."""

    label = "MAE"
    better: ClassVar[Literal["higher", "lower"]] = "lower"
    tasks = ("regression",)

    def sums(self, outputs: Tensor, targets: Tensor, spec: DataSpec) -> Tensor:
        """The sum of the absolute errors."""
        return errors(outputs, targets).double().abs().mean(1).sum()

    def value(self, sums: np.ndarray, count: int) -> float:
        """The mean."""
        return mean(sums, count)
