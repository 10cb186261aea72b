"""Several metrics at work on one form of data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.base.own_code import in_own_code
from hansa.base.spec import DataSpec
from hansa.metrics.classes import Accuracy
from hansa.metrics.loss import MeanLoss
from hansa.metrics.metric import Metric
from hansa.metrics.regression import RMSE

if TYPE_CHECKING:
    from torch import Tensor


def usual(spec: DataSpec) -> tuple[Metric, ...]:
    """What is measured where nothing is asked for."""
    return (RMSE() if spec.task == "regression" else Accuracy(), MeanLoss())


class MetricSet:
    """Several metrics of one form of data. Their sums lie in one row of S numbers.

    Args:
        metrics: the first is the one by which models are chosen; none: the :func:`usual` ones.

    Raises:
        ConfigError: one does not measure such data, fails, or is there twice.
    """

    def __init__(self, metrics: Sequence[Metric], spec: DataSpec) -> None:
        self.metrics, self.spec = tuple(metrics) or usual(spec), spec
        for k, metric in enumerate(self.metrics):
            try:
                metric.check(spec)
            except ConfigError as error:
                raise error.under(f"metrics.{k}") from None
        counts = Counter(metric.figure for metric in self.metrics)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise ConfigError("metrics", twice[0], "is there twice", "each figure once")

    @property
    def first(self) -> Metric:
        """The metric by which models are chosen."""
        return self.metrics[0]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every figure's name."""
        return tuple(self.of(*self._example))

    def try_out(self) -> None:
        """Measure two made-up examples.

        Raises:
            ConfigError: a metric fails, or breaks the law.
        """
        outputs, targets = self._example
        one, other = (self._alone(outputs[k : k + 1], targets[k : k + 1]) for k in range(2))
        whole = zip(self._alone(outputs, targets), one, other, self.metrics, strict=True)
        for k, (sums, first, second, metric) in enumerate(whole):
            same = sums.shape == first.shape == second.shape
            if not same or not torch.allclose(sums, first + second):
                problem = "breaks the law: the sums of two examples are not the sum of their sums"
                fix = "sums of a fixed shape, and no means"
                raise ConfigError(f"metrics.{k}", metric.figure, problem, fix)
        self.of(outputs, targets)

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Float64 [S] of outputs [m, C] and targets [m], on their device."""
        return self.sums_of_each(outputs.unsqueeze(0), targets)[0]

    def sums_of_each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Float64 [k, S] of the outputs [k, m, C] of k models and targets [m]."""
        return torch.cat(
            [part.reshape(len(part), -1) for part in self._each(outputs, targets)], dim=1
        )

    def values(self, sums: np.ndarray, count: int) -> dict[str, float]:
        """Every figure of ``count`` examples by name, from sums [S]."""
        figures: dict[str, float] = {}
        ends = np.cumsum([math.prod(shape) for shape in self._shapes])
        parts = zip(self.metrics, np.split(sums, ends[:-1]), self._shapes, strict=True)
        for k, (metric, part, shape) in enumerate(parts):
            try:
                figures |= metric.values(part.reshape(shape), count)
            except Exception as error:
                self._blame(k, error)
                raise
        return figures

    def of(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Every figure of outputs [m, C] and targets [m]."""
        return self.values(self.sums(outputs, targets).cpu().numpy(), len(targets))

    def facts(self) -> dict[str, dict[str, Any]]:
        """How each figure is read, plain data by name.

        ``better``, ``share`` and ``label`` as of :class:`Metric`; ``rank``, the metric's place in
        the list, for its own figure, None for what it says besides.
        """
        readings: dict[str, dict[str, Any]] = {}
        for rank, metric in enumerate(self.metrics):
            for name in MetricSet([metric], self.spec).names:
                own = name == metric.figure
                label = {} if own else {"label": ""}
                readings[name] = {**metric.reading(), **label, "rank": rank if own else None}
        return readings

    def _alone(self, outputs: Tensor, targets: Tensor) -> list[Tensor]:
        """Each metric's sums of one model's outputs [m, C]."""
        return [part[0] for part in self._each(outputs.unsqueeze(0), targets)]

    def _each(self, outputs: Tensor, targets: Tensor) -> list[Tensor]:
        """Each metric's sums [k, ...] of k models' outputs [k, m, C]."""
        sums: list[Tensor] = []
        try:
            for metric in self.metrics:
                sums.append(metric.sums_of_each(outputs, targets, self.spec).double())
        except Exception as error:
            self._blame(len(sums), error)
            raise
        return sums

    def _blame(self, k: int, error: Exception) -> None:
        """Raise an error of a metric as one of the user's own code, if that is at fault."""
        expected = "what hansa.metrics.Metric says"
        own = in_own_code(error, f"metrics.{k}", expected, self.metrics[k])
        if own is not None:
            raise own from error

    @cached_property
    def _shapes(self) -> list[tuple[int, ...]]:
        return [tuple(part.shape) for part in self._alone(*self._example)]

    @cached_property
    def _example(self) -> tuple[Tensor, Tensor]:
        """Made-up outputs and targets of two examples."""
        outputs = torch.linspace(-1, 1, 2 * self.spec.outputs).reshape(2, -1)
        targets = torch.arange(2)
        if self.spec.task == "regression":
            return outputs, targets.float()
        return outputs, targets % self.spec.classes
