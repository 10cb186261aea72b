"""Measuring a client's model on what it holds back, in a way of its own kind of data."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.component import Component
from hansa.base.spec import DataSpec
from hansa.data.dataset import Dataset
from hansa.report.scores import direction

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Tally:
    """What one client's examples come to, in sums, so that those of many add up.

    Attributes:
        sums: numbers by name; the same names at every client.
        counts: int64 arrays by name, of one shape at every client. Whole numbers, since their sum
            is the same in whatever order clients are added.
    """

    sums: Mapping[str, float]
    counts: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Tallies:
    """Those of all clients that were measured.

    Attributes:
        sums: float64 [nodes] by name, in the order of the nodes; NaN for who has none.
        counts: the sum over clients of each array.
    """

    sums: Mapping[str, np.ndarray]
    counts: Mapping[str, np.ndarray]


class OwnJudge(Component, kind="judge"):
    """What is measured of clients' models on examples that stay with them.

    Where a client is, :meth:`tally` reduces its examples to sums; where reports are put together,
    :meth:`figures` and :meth:`by_node` make figures of the sums of all. The same, whatever workers
    the clients are spread over.
    """

    def check(self, spec: DataSpec) -> None:
        """Refuse data that it cannot measure.

        Raises:
            ConfigError: naming the setting.
        """

    @abstractmethod
    def tally(
        self, module: nn.Module, dataset: Dataset, trained: np.ndarray, held: np.ndarray
    ) -> Tally:
        """One client's.

        Args:
            module: its model, in evaluation mode; no gradients are kept.
            trained: int64, its own examples that it trains on, positions in ``dataset.train``.
            held: those that it holds back, one at least.
        """

    @abstractmethod
    def by_node(self, tallies: Tallies) -> dict[str, np.ndarray]:
        """Figures of each node by name, float64 [nodes], NaN for who has none."""

    @abstractmethod
    def figures(self, tallies: Tallies) -> dict[str, float]:
        """Figures of the whole run by name."""

    def better(self, name: str) -> str:
        """``higher`` or ``lower``, as a better figure of this name is; empty: neither is."""
        return direction(name)
