"""One query's answer out of members' rows: the class, whether it is certified, or an abstention.

Of n members r have answered; rows are probabilities. Once nobody is waited for, the class is
certified at f if no f of the r rows could have changed it. Earlier, with q members still out, it is
*decided* if neither f of the rows that are there nor anything that the q may yet say, nor their
silence, can change it: then there is nothing to wait for.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch, without_gradients
from hansa.ensemble import certificates
from hansa.ensemble.aggregators import Aggregator
from hansa.infer.robust.score_aggregator import ScoreAggregator, Static

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Answer:
    """What is answered to one query.

    Attributes:
        class_index: the class, or None: it abstains.
        scores: float64 [K], the aggregate, as shares where it has such.
        certified: whether no f members could have made it another class.
        f_star: the largest number of members that could not have; -1: unknown, or not even none.
        missing: members whose rows are not in it.
        early: whether it was decided before all had answered.
    """

    class_index: int | None
    scores: np.ndarray
    certified: bool
    f_star: int
    missing: int
    early: bool = False


class Positional(ScoreAggregator):
    """A rule that tells members apart, so that it must know whose rows are there."""

    @abstractmethod
    def among(self, which: Sequence[int]) -> ScoreAggregator | None:
        """The rule of some members alone; None where it needs all of them."""


class Answerer:
    """Answers queries of n members, f of whom may lie.

    Args:
        aggregator: what makes one of the rows.
        classes: K.
        margin: by how much the first class must lead the second, or it abstains.
        certified_only: also abstain from what is not certified.
    """

    def __init__(
        self,
        aggregator: ScoreAggregator | Aggregator,
        classes: int,
        n: int,
        f: int,
        margin: float = 0.0,
        certified_only: bool = False,
    ) -> None:
        if isinstance(aggregator, Aggregator):
            aggregator = Static(aggregator)
        self.aggregator, self.classes, self.n, self.f = aggregator, classes, n, f
        self.margin, self.certified_only = margin, certified_only

    @property
    def width(self) -> int:
        """How many numbers a member's row has: K, or C of scores."""
        return int(getattr(self.aggregator, "width", self.classes))

    @property
    def least(self) -> int:
        """How many rows an answer needs: a majority of honest ones, and what the rule needs."""
        rule = self.aggregator
        if isinstance(rule, Positional) and rule.among(range(self.n - 1)) is None:
            return self.n
        return max(2 * self.f + 1, rule.least)

    def answer(self, rows: Tensor | np.ndarray, which: Sequence[int]) -> Answer:
        """The answer of r members, nobody else being waited for: rows [r, K].

        Args:
            which: int [r], whose rows they are.
        """
        return self.answers(np.asarray(rows, dtype=np.float64)[None], which)[0]

    def decided(
        self, rows: Tensor | np.ndarray, which: Sequence[int], pending: int | None = None
    ) -> Answer | None:
        """The answer, if no more rows can change it, else None: rows [r, K].

        Args:
            pending: how many members are still out; None: all that are not here. Those that
                have failed are none of them.
        """
        return self.decisions(np.asarray(rows, dtype=np.float64)[None], which, pending)[0]

    def answers(self, rows: np.ndarray, which: Sequence[int]) -> list[Answer]:
        """The answers to m queries: rows float64 [m, r, K]."""
        scores, largest = self._judged(self._among(which), rows, 0)
        return self._told(scores, largest, self.n - rows.shape[1], early=False)

    def decisions(
        self, rows: np.ndarray, which: Sequence[int], pending: int | None = None
    ) -> list[Answer | None]:
        """The answers to m queries, each None where it can still change: rows float64 [m, r, K].

        That members who are out may be anything covers their silence: one whose row is what the
        others' aggregate is already changes nothing.
        """
        out = self.n - rows.shape[1] if pending is None else pending
        if out == 0:
            return list(self.answers(rows, which))
        if self.margin > 0 or isinstance(self.aggregator, Positional):
            return [None] * len(rows)  # whether the lead will be large enough is not known yet
        scores, largest = self._judged(self.aggregator, rows, out)
        answers = self._told(scores, largest, self.n - rows.shape[1], early=True)
        return [answer if answer.certified else None for answer in answers]

    def _among(self, which: Sequence[int]) -> ScoreAggregator:
        if not isinstance(self.aggregator, Positional):
            return self.aggregator
        some = self.aggregator.among(which)
        if some is None:
            raise ValueError(f"{self.aggregator.name} needs all {self.n} members")
        return some

    def _judged(
        self, aggregator: ScoreAggregator, rows: np.ndarray, out: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores float64 [m, K] of the rows that are there, and f* [m] with ``out`` more."""
        if type(aggregator) is Static:
            judged = certificates.judged(aggregator.aggregator, rows, out)
            if judged is not None:
                return judged
        return _slowly(aggregator, rows, out)

    def _told(
        self, scores: np.ndarray, largest: np.ndarray, missing: int, early: bool
    ) -> list[Answer]:
        best = scores.argmax(1).tolist()
        answers = []
        for k, f_star in enumerate(largest.tolist()):
            certified = f_star >= self.f
            silent = self.certified_only and not certified
            if self.margin > 0 and scores.shape[1] > 1:
                second, first = np.partition(scores[k], -2)[-2:]
                silent = silent or first - second < self.margin
            chosen = None if silent else best[k]
            answers.append(Answer(chosen, scores[k], certified, f_star, missing, early))
        return answers


@without_gradients
def _slowly(
    aggregator: ScoreAggregator, rows: np.ndarray, out: int
) -> tuple[np.ndarray, np.ndarray]:
    whole = torch.from_numpy(rows)
    whole = whole.float() if aggregator.learned else whole  # as networks were trained
    scores = aggregator.shares(aggregator.scores(whole)).double().cpu().numpy()
    return scores, aggregator.largest_f(whole, out).cpu().numpy()
