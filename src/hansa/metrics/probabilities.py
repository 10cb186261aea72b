"""Figures of what a classifier holds likely, not only of the class that it names."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import functional as F
from hansa.base.lazy import torch
from hansa.base.losses import predicted
from hansa.base.spec import DataSpec
from hansa.metrics.metric import Metric

if TYPE_CHECKING:
    from torch import Tensor

_WIDEST = 16.0
"""Log-odds beyond which scores are not told apart: a chance of 1e-7."""


def log_odds(outputs: Tensor) -> Tensor:
    """Of each class against all others, float64 [m, C] of scores [m, C]; of class 1 alone [m, 1]
    where one score tells two classes apart. What is no number says nothing: 0."""
    scores = outputs.double()
    if scores.shape[1] > 1:
        likely = F.log_softmax(scores, 1)
        scores = likely - torch.log1p(-likely.exp())
    return scores.nan_to_num(nan=0.0)


@register(
    "auroc",
    paper="Hanley and McNeil",
    year=1982,
    url="https://doi.org/10.1148/radiology.143.1.7063747",
)
class AUROC(Metric):
    """Chance that an example of a class scores higher for it than one of another class does.

    The area under the ROC curve, of one class against the rest, mean
    over the classes that occur beside others. Scores are log-odds, counted in bins so that the
    law holds; pairs within a bin count half. So the figure of a class is at most half the share of
    its pairs that fall into one bin from the exact one (:meth:`error`).
    """

    label = "AUROC"
    share = True
    bins: int = Field(1000, ge=2, description="into which scores are counted, between log-odds 16")

    def sums(self, outputs: Tensor, targets: Tensor, spec: DataSpec) -> Tensor:
        """How many examples lie in each bin, by class: of the others, of its own [K, 2, bins]."""
        scores = log_odds(outputs)
        k = scores.shape[1]
        column = torch.arange(k, device=scores.device)
        at = ((scores + _WIDEST) * (self.bins / (2 * _WIDEST))).clamp(0, self.bins - 1).long()
        own = (targets.unsqueeze(1) == (column if k > 1 else column + 1)).long()
        cells = (2 * column + own) * self.bins + at
        return torch.bincount(cells.flatten(), minlength=k * 2 * self.bins).view(k, 2, -1)

    def value(self, sums: np.ndarray, count: int) -> float:
        others, own = sums[:, 0], sums[:, 1]
        below = np.cumsum(others, 1) - others / 2
        return self._mean((own * below).sum(1), sums)

    def error(self, sums: np.ndarray) -> float:
        """The most by which the figure may differ from the exact one."""
        return self._mean((sums[:, 0] * sums[:, 1]).sum(1) / 2, sums)

    def _mean(self, pairs: np.ndarray, sums: np.ndarray) -> float:
        """Pairs [K] as a share of all of a class, mean over the classes that have some."""
        every = sums[:, 0].sum(1) * sums[:, 1].sum(1)
        some = every > 0
        return float((pairs[some] / every[some]).mean()) if some.any() else math.nan


@register(
    "calibration_error",
    paper="Guo et al.",
    year=2017,
    url="https://arxiv.org/abs/1706.04599",
)
class CalibrationError(Metric):
    """Gap between how sure the model is and how often it is right, mean over bins of sureness.

    The expected calibration error of the predicted class, in bins of equal
    width.
    """

    better: ClassVar[Literal["higher", "lower"]] = "lower"
    share = True
    bins: int = Field(15, ge=1, description="of equal width between 0 and 1")

    def sums(self, outputs: Tensor, targets: Tensor, spec: DataSpec) -> Tensor:
        """By bin: how many are right, and the sum of the chances given [2, bins]."""
        scores = outputs.double()
        if scores.shape[1] == 1:
            sure = torch.sigmoid(scores[:, 0].abs())
        else:
            sure = scores.softmax(1).amax(1)
        at = (sure.nan_to_num(nan=0.0) * self.bins).clamp(max=self.bins - 1).long()
        rows = torch.stack([(predicted(outputs) == targets).double(), sure])
        return rows @ F.one_hot(at, self.bins).double()

    def value(self, sums: np.ndarray, count: int) -> float:
        if not count:
            return math.nan
        gap = float(np.abs(sums[0] - sums[1]).sum() / count)
        return math.inf if math.isnan(gap) else gap
