"""Certificates: what f liars, and members who have not answered, can make of an answer at most.

Rows are probabilities, numbers from 0 to 1. For an aggregator whose numbers are means of order
statistics (mean, median, trimmed mean) the lowest and the highest value of each number follow from
the rows in order: replaced rows are 0 or 1. Both ends are attained. "In at most f rows" is
symmetric, so that what is computed from the rows that came holds for those that should have come.

- :func:`bounds`: the ends, number by number.
- :func:`decided`: the class that is answered whatever the liars do, where there is one. For the
  mean and the majority vote the rule is exact: a class is certified if and only if no replacement
  changes it. For the others the ends of the classes are compared, which is safe, not exact.
- :func:`largest_f`: f*, the most liars at which an answer is certified.

Members whose rows are missing count as arbitrary: with r of n rows in, an answer that is decided
need not wait for the others. No bound is known here for geometric medians, Krum, mixing, bucketing
and clipping: they are never certified, and their f* is -1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hansa.base.lazy import torch
from hansa.ensemble.aggregators.aggregator import Aggregator
from hansa.ensemble.aggregators.coordinate_wise import TrimmedMean
from hansa.ensemble.aggregators.majority_vote import MajorityVote, votes
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
    evidence = _evidence(aggregator, rows, missing)
    if evidence is None:
        return None
    evidence.check(f)
    return evidence.bounds(f)


def decided(aggregator: Aggregator, rows: Tensor, f: int, missing: int = 0) -> Tensor:
    """The class that is answered whatever f liars do, int64 [m]; -1 where none is certain.

    With all rows there it is the aggregate's largest number.
    """
    evidence = _evidence(aggregator, rows, missing)
    if evidence is None:
        return torch.full((len(rows),), -1, device=rows.device)
    evidence.check(f)
    return torch.where(evidence.certified(f), evidence.leading(f), -1)


def certified(aggregator: Aggregator, rows: Tensor, f: int, missing: int = 0) -> Tensor:
    """Whether a class is :func:`decided`, bool [m]."""
    return decided(aggregator, rows, f, missing) >= 0


def largest_f(aggregator: Aggregator, rows: Tensor, missing: int = 0) -> Tensor:
    """f*, the largest f below half of all members at which an answer is certified, int64 [m].

    -1 where it is not even at f = 0: classes are equal, or missing members may change it. The
    aggregator stays as it is: a trimmed mean trims its own f, however many lie.
    """
    most = torch.full((len(rows),), -1, device=rows.device)
    evidence = _evidence(aggregator, rows, missing)
    if evidence is None:
        return most
    for f in range(min((evidence.n - 1) // 2, rows.shape[1]) + 1):
        still = evidence.certified(f) & (most == f - 1)
        if not still.any():
            break
        most[still] = f
    return most


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
class _Evidence:
    """Rows float64 [m, r, K], of n members."""

    rows: Tensor
    n: int

    def __post_init__(self) -> None:
        self.prepare()

    def prepare(self) -> None:
        """What all f need."""

    def check(self, f: int) -> None:
        """Refuse an f that no rows have."""
        r = self.rows.shape[1]
        if not 0 <= f <= r:
            raise ValueError(f"f is {f}: of {r} rows from 0 to {r} can be replaced")

    def bounds(self, f: int) -> tuple[Tensor, Tensor]:
        """The ends, [m, K] each."""
        raise NotImplementedError

    def leading(self, f: int) -> Tensor:
        """The only class that can be certified, [m]."""
        return self.bounds(f)[0].argmax(1)

    def certified(self, f: int) -> Tensor:
        """Whether the leading class's lower end is above all others' upper ends."""
        low, high = self.bounds(f)
        leading = low.argmax(1, keepdim=True)
        rival = high.scatter(1, leading, -torch.inf).amax(1)
        return low.gather(1, leading)[:, 0] > rival


@dataclass
class _Ranks(_Evidence):
    """Numbers are means of the low-th to the (high - 1)-th smallest of n."""

    low: int = 0
    high: int = 0

    def prepare(self) -> None:
        ascending = self.rows.sort(dim=1).values
        nothing = self.rows.new_zeros(len(self.rows), 1, self.rows.shape[2])
        self.sums = torch.cat([nothing, ascending.cumsum(1)], 1)
        """Of the k smallest, [m, r + 1, K]."""

    def bounds(self, f: int) -> tuple[Tensor, Tensor]:
        return self._lowest(f), 1 - self._lowest(f, flipped=True)

    def _lowest(self, f: int, flipped: bool = False) -> Tensor:
        """The f largest are replaced by 0, missing rows are 0; flipped: of 1 less the numbers."""
        r = self.rows.shape[1]
        low, high = (self.n - self.high, self.n - self.low) if flipped else (self.low, self.high)
        zeros, kept = self.n - r + f, r - f
        first, last = (min(max(rank - zeros, 0), kept) for rank in (low, high))
        if flipped:
            total = (last - first) - (self.sums[:, r - first] - self.sums[:, r - last])
        else:
            total = self.sums[:, last] - self.sums[:, first]
        return total / (high - low)


@dataclass
class _Mean(_Ranks):
    """The mean: liars take away their own lead over a rival and give the rival 1 each."""

    def prepare(self) -> None:
        super().prepare()
        best = self.sums[:, -1].argmax(1)
        self.best = best
        leads = self.rows.gather(2, best.view(-1, 1, 1).expand(-1, self.rows.shape[1], 1))
        ascending = (leads - self.rows).sort(dim=1).values
        nothing = self.rows.new_zeros(len(self.rows), 1, self.rows.shape[2])
        self.leads = torch.cat([nothing, ascending.cumsum(1)], 1)

    def leading(self, f: int) -> Tensor:
        return self.best

    def certified(self, f: int) -> Tensor:
        r = self.rows.shape[1]
        lead = self.leads[:, r - f] - (f + self.n - r)
        return lead.scatter(1, self.best.unsqueeze(1), torch.inf).amin(1) > 0


@dataclass
class _Votes(_Evidence):
    """Votes are moved from one class to another; of equal counts the first class wins."""

    def prepare(self) -> None:
        self.counts = votes(self.rows).double().sum(1)

    def bounds(self, f: int) -> tuple[Tensor, Tensor]:
        r = self.rows.shape[1]
        highest = (self.counts + f).clamp(max=r) + self.n - r
        return (self.counts - f).clamp(min=0) / self.n, highest / self.n

    def leading(self, f: int) -> Tensor:
        return self.counts.argmax(1)

    def certified(self, f: int) -> Tensor:
        leading = self.counts.argmax(1, keepdim=True)
        classes = torch.arange(self.counts.shape[1], device=self.counts.device)
        need = torch.where(classes > leading, 0, 1)  # a tie is lost to a class that comes before
        gained = 2 * f + self.n - self.rows.shape[1]
        spare = self.counts.gather(1, leading) - self.counts - gained - need
        return spare.scatter(1, leading, torch.inf).amin(1) >= 0


def _evidence(aggregator: Aggregator, rows: Tensor, missing: int) -> _Evidence | None:
    n = rows.shape[1] + missing
    aggregator.check_rows(n)
    rows = rows.detach().double()
    if isinstance(aggregator, MajorityVote):
        return _Votes(rows, n)
    ranks = aggregator.ranks(n)
    if ranks is None:
        return None
    return _Mean(rows, n, *ranks) if isinstance(aggregator, Mean) else _Ranks(rows, n, *ranks)
