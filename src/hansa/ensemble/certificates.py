"""Certificates: what f liars, and members who have not answered, can make of an answer at most.

Rows are probabilities, numbers from 0 to 1. For an aggregator whose numbers are means of order
statistics (mean, median, trimmed mean) the lowest and the highest value of each number follow from
the rows in order: replaced rows are 0 or 1. Both ends are attained. "In at most f rows" is
symmetric, so that what is computed from the rows that came holds for those that should have come.

- :func:`bounds`: the ends, number by number.
- :func:`decided`: the class that is answered whatever the liars do, where there is one. For the
  mean and the majority vote the rule is exact: a class is certified if and only if no replacement
  changes it. For the others the ends of the classes are compared, which is safe, not exact.
- :func:`largest_f`: f*, the most liars at which an answer is certified; :func:`judged` gives it
  with the scores.

Members whose rows are missing count as arbitrary: with r of n rows in, an answer that is decided
need not wait for the others. No bound is known here for geometric medians, Krum, mixing, bucketing
and clipping: they are never certified, and their f* is -1.

All of it is NumPy, and all f are tried at once: a server answers one query at a time, and a hundred
of torch's operations on ten numbers would take longer than all else that it does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.ensemble.aggregators.aggregator import Aggregator
from hansa.ensemble.aggregators.coordinate_wise import TrimmedMean
from hansa.ensemble.aggregators.majority_vote import MajorityVote
from hansa.ensemble.aggregators.mean import Mean

if TYPE_CHECKING:
    from torch import Tensor


def bounds(
    aggregator: Aggregator, rows: Tensor, f: int, missing: int = 0
) -> tuple[Tensor, Tensor] | None:
    """The lowest and highest value of each number, float64 [m, K]; None where none are known.

    Over all replacements of at most f of the r rows [m, r, K] that are there by rows of numbers
    from 0 to 1, and all ``missing`` rows of that kind beside them, all of equal weight.

    Raises:
        ValueError: f is below 0 or above r, or there are too few rows for the aggregator.
    """
    evidence = _evidence(aggregator, _array(rows), missing)
    if evidence is None:
        return None
    low, high = evidence.bounds(evidence.only(f))
    return torch.from_numpy(low[:, 0]).to(rows.device), torch.from_numpy(high[:, 0]).to(rows.device)


def decided(aggregator: Aggregator, rows: Tensor, f: int, missing: int = 0) -> Tensor:
    """The class that is answered whatever f liars do, int64 [m]; -1 where none is certain.

    With all rows there it is the aggregate's largest number.
    """
    evidence = _evidence(aggregator, _array(rows), missing)
    if evidence is None:
        return torch.full((len(rows),), -1, device=rows.device)
    leading, holds = evidence.decide(evidence.only(f))
    return torch.from_numpy(np.where(holds, leading, -1)[:, 0]).to(rows.device)


def certified(aggregator: Aggregator, rows: Tensor, f: int, missing: int = 0) -> Tensor:
    """Whether a class is :func:`decided`, bool [m]."""
    return decided(aggregator, rows, f, missing) >= 0


def largest_f(aggregator: Aggregator, rows: Tensor, missing: int = 0) -> Tensor:
    """f*, the largest f below half of all members at which an answer is certified, int64 [m].

    -1 where it is not even at f = 0: classes are equal, or missing members may change it. The
    aggregator stays as it is: a trimmed mean trims its own f, however many lie.
    """
    evidence = _evidence(aggregator, _array(rows), missing)
    if evidence is None:
        return torch.full((len(rows),), -1, device=rows.device)
    return torch.from_numpy(evidence.largest()).to(rows.device)


def judged(
    aggregator: Aggregator, rows: np.ndarray, missing: int = 0
) -> tuple[np.ndarray, np.ndarray] | None:
    """The aggregate float64 [m, K] of the rows float64 [m, r, K] that are there, and f* [m].

    None where no bound is known.
    """
    evidence = _evidence(aggregator, rows, missing)
    return None if evidence is None else (evidence.scores(), evidence.largest())


def margin(scores: Tensor) -> Tensor:
    """How far the largest of scores [..., K] is above the second; infinite where all are equal."""
    top = scores.topk(min(2, scores.shape[-1]), dim=-1).values
    same = (scores == scores[..., :1]).all(-1)
    return (top[..., 0] - top[..., -1]).masked_fill(same, float("inf"))


def theorem_1(n: int, f: int) -> float:
    """C(n, f) of robust federated inference's theorem 1, for the trimmed mean.

    Where the margin of the honest mean is above C sigma, sigma² the largest variance over members
    of one class's probability, f liars do not change the trimmed mean's class.

    Raises:
        ValueError: half or more lie.
    """
    kappa = TrimmedMean(f=f).kappa(n, f)
    if kappa is None:
        raise ValueError(f"of {n} members {f} are half or more")
    return 2 * ((kappa * n / (n - f)) ** 0.5 + (f / (n - f)) ** 0.5)


@dataclass
class _Evidence(ABC):
    """Rows float64 [m, r, K], of n members. An array of several f is int64 [F]."""

    rows: np.ndarray
    n: int

    @property
    def here(self) -> int:
        """r."""
        return self.rows.shape[1]

    def only(self, f: int) -> np.ndarray:
        """One f.

        Raises:
            ValueError: no rows have it.
        """
        if not 0 <= f <= self.here:
            raise ValueError(f"f is {f}: of {self.here} rows from 0 to {self.here} can be replaced")
        return np.array([f])

    def largest(self) -> np.ndarray:
        """The largest f up to which a class is certified at each, int64 [m]; -1: at none."""
        every = np.arange(min((self.n - 1) // 2, self.here) + 1)
        holds = self.decide(every)[1]
        return np.asarray(np.cumprod(holds, axis=1).sum(1) - 1)

    @abstractmethod
    def scores(self) -> np.ndarray:
        """The aggregate [m, K] of the rows that are there."""

    @abstractmethod
    def bounds(self, f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ends at each f, [m, F, K] each."""

    @abstractmethod
    def decide(self, f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The only class that can be certified at each f, and whether it is, [m, F] each."""


class _Ranks(_Evidence):
    """Numbers are means of the low-th to the (high - 1)-th smallest of n.

    Args:
        here: the same ranks of the rows that are there.
        ranks: of all n.
    """

    def __init__(
        self, rows: np.ndarray, n: int, here: tuple[int, int], ranks: tuple[int, int]
    ) -> None:
        super().__init__(rows, n)
        self.ranks_here, self.ranks = here, ranks
        self.sums = _from_zero(np.sort(rows, axis=1))
        """Of the k smallest, [m, r + 1, K]."""

    def scores(self) -> np.ndarray:
        low, high = self.ranks_here
        return np.asarray((self.sums[:, high] - self.sums[:, low]) / (high - low))

    def bounds(self, f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low, high = self.ranks
        width = high - low
        first, last, bottom, top = _spans(self.n, self.here, low, high, int(f[0]), int(f[-1]))
        lowest = (self.sums[:, last] - self.sums[:, first]) / width
        ones = width - (top - bottom)  # of those that count, so many are 1
        return lowest, (self.sums[:, top] - self.sums[:, bottom] + ones[:, None]) / width

    def decide(self, f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lowest, highest = self.bounds(f)
        leading = lowest.argmax(2)
        at = (np.arange(len(lowest))[:, None], np.arange(len(f)), leading)
        highest[at] = -np.inf
        return leading, lowest[at] > highest.max(2)


class _Mean(_Ranks):
    """The mean: liars take away their own lead over a rival and give the rival 1 each."""

    def decide(self, f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        best = self.sums[:, -1].argmax(1)[:, None, None]
        leads = np.take_along_axis(self.rows, best, 2) - self.rows
        left = _from_zero(np.sort(leads, axis=1))[:, self.here - f]
        left = left - (f + self.n - self.here)[None, :, None]
        shape = (len(self.rows), len(f), 1)
        np.put_along_axis(left, np.broadcast_to(best, shape), np.inf, 2)
        return np.broadcast_to(best[:, :, 0], shape[:2]), left.min(2) > 0


class _Votes(_Evidence):
    """Votes are moved from one class to another; of equal counts the first class wins."""

    def __init__(self, rows: np.ndarray, n: int) -> None:
        super().__init__(rows, n)
        said = rows.argmax(2)
        self.counts = (said[:, :, None] == np.arange(rows.shape[2])).sum(1).astype(float)

    def scores(self) -> np.ndarray:
        return np.asarray(self.counts / self.here)

    def bounds(self, f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counts, liars, r = self.counts[:, None], f[None, :, None], self.here
        highest = np.minimum(counts + liars, r) + self.n - r
        return np.maximum(counts - liars, 0) / self.n, highest / self.n

    def decide(self, f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        leading = self.counts.argmax(1)[:, None]
        classes = np.arange(self.counts.shape[1])
        need = np.where(classes > leading, 0, 1)  # a tie is lost to a class that comes before
        spare = np.take_along_axis(self.counts, leading, 1) - self.counts - need
        np.put_along_axis(spare, leading, np.inf, 1)
        gained = 2 * f + self.n - self.here
        return np.repeat(leading, len(f), 1), spare.min(1)[:, None] >= gained


def _evidence(aggregator: Aggregator, rows: np.ndarray, missing: int) -> _Evidence | None:
    r, n = rows.shape[1], rows.shape[1] + missing
    aggregator.check_rows(n)
    if isinstance(aggregator, MajorityVote):
        return _Votes(rows, n)
    here, ranks = aggregator.ranks(r), aggregator.ranks(n)
    if here is None or ranks is None:
        return None
    return (_Mean if isinstance(aggregator, Mean) else _Ranks)(rows, n, here, ranks)


def _array(rows: Tensor) -> np.ndarray:
    return rows.detach().double().cpu().numpy()


def _from_zero(ascending: np.ndarray) -> np.ndarray:
    """Sums of the k smallest: [m, r, K] -> [m, r + 1, K]."""
    sums = np.zeros((ascending.shape[0], ascending.shape[1] + 1, ascending.shape[2]))
    np.cumsum(ascending, axis=1, out=sums[:, 1:])
    return sums


@lru_cache(maxsize=256)
def _spans(
    n: int, r: int, low: int, high: int, least_f: int, most_f: int
) -> tuple[np.ndarray, ...]:
    """Which sums the ends of a number are the difference of, at each f: int64 [F] each.

    With n - r + f rows of 0 (of 1), the low-th to the (high - 1)-th smallest of n begin and end at
    these of the rows that are left, which are without their f largest (smallest).
    """
    f = np.arange(least_f, most_f + 1)
    liars = n - r + f
    first, last = (np.clip(rank - liars, 0, r - f) for rank in (low, high))
    top, bottom = (np.clip(n - rank - liars, 0, r - f) for rank in (high, low))
    return first, last, r - bottom, r - top
