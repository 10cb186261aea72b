"""The kind of component that says how good a model is."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from hansa.base.component import Component
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.base.spec import DataSpec

if TYPE_CHECKING:
    from torch import Tensor


class Metric(Component, kind="metric"):
    """A figure of what a model says of some examples, made of sums.

    The law: the sums of a union of examples are the sum of the sums. So batches, clients and
    workers each add theirs, and the figure is taken once, at the end. Counts are exact in float64.
    """

    better: ClassVar[Literal["higher", "lower"]] = "higher"
    """In which direction a model is better."""

    share: ClassVar[bool] = False
    """Whether the figure is a share of 1, to be shown in per cent."""

    label: ClassVar[str] = ""
    """The figure's name as people write it, where that is not its name in words."""

    tasks: ClassVar[tuple[str, ...]] = ("classification", "binary")
    """The tasks of a :class:`hansa.base.spec.DataSpec` that it measures."""

    @property
    def figure(self) -> str:
        """What the figure is called in records and tables."""
        return (type(self).name or type(self).__qualname__).rpartition(":")[2]

    @classmethod
    def reading(cls) -> dict[str, Any]:
        """How its figures are read, as plain data."""
        return {"better": cls.better, "share": cls.share, "label": cls.label}

    def check(self, spec: DataSpec) -> None:
        """Refuse data that it cannot measure.

        Raises:
            ConfigError: naming what it measures.
        """
        if spec.task not in self.tasks:
            raise ConfigError(
                "",
                self.figure,
                f"measures {' and '.join(self.tasks)}, and the data are for {spec.task}",
                "hansa list metric",
            )

    @abstractmethod
    def sums(self, outputs: Tensor, targets: Tensor, spec: DataSpec) -> Tensor:
        """What the law is about, of any shape that is always the same.

        Args:
            outputs: float32 [m, C], scores as the model gives them (logits, or one number each).
            targets: [m], int64 classes or float32 values.
        """

    def sums_of_each(self, outputs: Tensor, targets: Tensor, spec: DataSpec) -> Tensor:
        """:meth:`sums` of each of k models, outputs [k, m, C] -> [k, ...]."""
        return torch.stack([self.sums(one, targets, spec) for one in outputs])

    @abstractmethod
    def value(self, sums: np.ndarray, count: int) -> float:
        """The figure of ``count`` examples, NaN where there is none.

        Args:
            sums: float64, in the shape of :meth:`sums`.
        """

    def values(self, sums: np.ndarray, count: int) -> dict[str, float]:
        """All figures by name: its own, and whatever it says besides, such as class by class."""
        return {self.figure: self.value(sums, count)}
