"""Figures of predicted classes: all come from counts of who was taken for what."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.base.losses import predicted
from hansa.base.spec import DataSpec
from hansa.metrics.loss import mean
from hansa.metrics.metric import Metric

if TYPE_CHECKING:
    from torch import Tensor


@register("accuracy")
class Accuracy(Metric):
    """Share of the examples that get their own class."""

    share = True

    def sums(self, outputs: Tensor, targets: Tensor, spec: DataSpec) -> Tensor:
        """How many get it."""
        return (predicted(outputs) == targets).sum()

    def sums_of_each(self, outputs: Tensor, targets: Tensor, spec: DataSpec) -> Tensor:
        """Of all models at once."""
        return (predicted(outputs) == targets).sum(1)

    def value(self, sums: np.ndarray, count: int) -> float:
        """The share."""
        return mean(sums, count)


class Confusion(Metric):
    """What is made of the confusion matrix [C, C]: rows are true classes, columns predicted."""

    share = True

    def sums(self, outputs: Tensor, targets: Tensor, spec: DataSpec) -> Tensor:
        """How many examples of each class are taken for each [C, C]."""
        cells = targets * spec.classes + predicted(outputs)
        return torch.bincount(cells, minlength=spec.classes**2).view(spec.classes, -1)

    @abstractmethod
    def by_class(self, sums: np.ndarray) -> np.ndarray:
        """The figure of each class [C]; NaN where it has none."""

    def value(self, sums: np.ndarray, count: int) -> float:
        """The mean over the classes that have a figure."""
        return _mean_of_some(self.by_class(sums))

    def with_classes(self, sums: np.ndarray, count: int) -> dict[str, float]:
        """The figure, and that of each class c as ``FIGURE_c``."""
        each = self.by_class(sums).tolist()
        return {self.figure: self.value(sums, count)} | {
            f"{self.figure}_{c}": v for c, v in enumerate(each)
        }


@register("balanced_accuracy")
class BalancedAccuracy(Confusion):
    """Mean over the classes of the share that is found, so that rare classes count as much."""

    def by_class(self, sums: np.ndarray) -> np.ndarray:
        return _ratio(sums.diagonal(), sums.sum(1))


@register("recall")
class Recall(BalancedAccuracy):
    """Share of each class that is found (its own accuracy): recall_0, recall_1 ..., and their mean.

    Classes without examples have none and do not count.
    """

    def values(self, sums: np.ndarray, count: int) -> dict[str, float]:
        return self.with_classes(sums, count)


@register("precision")
class Precision(Confusion):
    """Share of what is taken for a class that is of it: precision_0 ..., and their mean.

    Classes that nothing is taken for have none and do not count.
    """

    def by_class(self, sums: np.ndarray) -> np.ndarray:
        return _ratio(sums.diagonal(), sums.sum(0))

    def values(self, sums: np.ndarray, count: int) -> dict[str, float]:
        return self.with_classes(sums, count)


@register("f1")
class F1(Confusion):
    """Harmonic mean of precision and recall, class by class.

    Classes that neither occur nor are predicted have none and do not count, as in scikit-learn.
    """

    label = "F1"
    average: Literal["macro", "weighted", "positive"] = Field(
        "macro",
        description="over the classes alike, by how often they occur, or of class 1 of two alone",
    )
    per_class: bool = Field(False, description="also of each class: f1_0, f1_1 ...")

    @property
    def figure(self) -> str:
        return "f1" if self.average == "macro" else f"f1_{self.average}"

    def check(self, spec: DataSpec) -> None:
        super().check(spec)
        if self.average == "positive" and spec.classes != 2:
            problem = f"is of one class of two, and there are {spec.classes}"
            raise ConfigError("average", self.average, problem, "macro or weighted")

    def by_class(self, sums: np.ndarray) -> np.ndarray:
        return _ratio(2 * sums.diagonal(), sums.sum(0) + sums.sum(1))

    def value(self, sums: np.ndarray, count: int) -> float:
        each = self.by_class(sums)
        if self.average == "positive":
            return float(each[1])
        if self.average == "weighted":
            return float(_ratio(np.nansum(each * sums.sum(1)), sums.sum()))
        return _mean_of_some(each)

    def values(self, sums: np.ndarray, count: int) -> dict[str, float]:
        return self.with_classes(sums, count) if self.per_class else super().values(sums, count)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part of whole, NaN where the whole is nothing."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _mean_of_some(each: np.ndarray) -> float:
    some = each[~np.isnan(each)]
    return float(some.mean()) if len(some) else float("nan")
