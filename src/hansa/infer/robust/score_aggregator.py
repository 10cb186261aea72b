"""What answers of many members' probabilities: one seam for rules that are fixed and learned ones.

Attacks, certificates, tables and servers know a :class:`ScoreAggregator` and nothing else. One
that is fixed is any :class:`~hansa.ensemble.aggregators.Aggregator`, wrapped by :class:`Static`.
Shapes: m queries, n members, K classes; rows are probabilities.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch, without_gradients
from hansa.ensemble import certificates
from hansa.ensemble.aggregators import Aggregator

if TYPE_CHECKING:
    from torch import Tensor

Lies = Callable[["Tensor"], "Tensor"]
"""Rows [m, f, K] of the liars -> scores [m, K], the others' rows being what they are."""


class ScoreAggregator(ABC):
    """Maps probabilities [m, n, K] to scores [m, K]; the class answered is the largest's."""

    name: str
    learned: ClassVar[bool] = False

    @abstractmethod
    def scores(self, probabilities: Tensor) -> Tensor:
        """[m, n, K] -> [m, K], differentiable where it can be."""

    @abstractmethod
    def certified(self, probabilities: Tensor, f: int, missing: int = 0) -> Tensor:
        """Bool [m]: whether the class is the same whatever f of the rows are replaced by.

        Args:
            missing: rows of further members that are not there: they may be anything.
        """

    @abstractmethod
    def largest_f(self, probabilities: Tensor, missing: int = 0) -> Tensor:
        """The largest f at which the class is certified, int64 [m]; -1 where not even at 0."""

    @property
    def least(self) -> int:
        """How many rows it needs."""
        return 1

    @property
    def monotone(self) -> bool:
        """Whether one-hot rows are the worst that liars can send (see ``hansa.ensemble.kvote``)."""
        return False

    def shares(self, scores: Tensor) -> Tensor:
        """Scores [m, K] as what the classes' probabilities would be compared with: [m, K]."""
        return scores

    def under(self, probabilities: Tensor, liars: Tensor, straight: bool = False) -> Lies:
        """The scores as a function of the liars' rows alone.

        Args:
            liars: int64 [m, f], who lies.
            straight: gradients pass what pools the rows as if it took their mean (BPDA; Athalye
                et al., 2018): those of a trimmed mean are 0 for every row that it leaves out.
        """
        at = liars.unsqueeze(-1).expand(-1, -1, probabilities.shape[-1])

        def scores(rows: Tensor) -> Tensor:
            whole = probabilities.scatter(1, at, rows)
            if not straight:
                return self.scores(whole)
            mean = whole.mean(1)
            with torch.no_grad():
                gap = self.scores(whole) - mean
            return mean + gap

        return scores


class Static(ScoreAggregator):
    """An aggregator that has nothing to learn, of probabilities.

    Args:
        name: what tables call it; none: the aggregator's own.
    """

    def __init__(self, aggregator: Aggregator, name: str = "") -> None:
        self.aggregator, self.name = aggregator, name or aggregator.name

    @property
    def least(self) -> int:
        """The aggregator's."""
        return self.aggregator.least

    @property
    def monotone(self) -> bool:
        """Means, trimmed means, medians and votes are."""
        return self.aggregator.name in _MONOTONE

    def scores(self, probabilities: Tensor) -> Tensor:
        """The aggregate of each query's rows."""
        return self.aggregator.many(probabilities)

    @without_gradients
    def certified(self, probabilities: Tensor, f: int, missing: int = 0) -> Tensor:
        """As ``hansa.ensemble.certificates`` can tell; False where no bound is known."""
        return certificates.certified(self.aggregator, probabilities, f, missing)

    @without_gradients
    def largest_f(self, probabilities: Tensor, missing: int = 0) -> Tensor:
        """As ``hansa.ensemble.certificates`` can tell; -1 where no bound is known."""
        return certificates.largest_f(self.aggregator, probabilities, missing)


_MONOTONE = {"mean", "trimmed_mean", "median", "majority_vote"}


def check_members(aggregator: Aggregator, name: str, members: int, f: int) -> None:
    """Refuse an aggregator that so few members, f of them liars, are too few for.

    Raises:
        ConfigError: names the field.
    """
    if 2 * f >= members:
        problem = f"of {members} members cannot be outvoted: f is below half of them"
        raise ConfigError("f", f, problem, f"at most {(members - 1) // 2}, or more members")
    if members < aggregator.least:
        problem = f"{name} needs {aggregator.least} members, and there are {members}"
        raise ConfigError("aggregators", name, problem, "a smaller f, or more members")
