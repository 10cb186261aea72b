"""The terms of weighted sums over what nodes heard, whether all of it came or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from hansa.topology import MixingMatrix

OnMissing = Literal["wait", "self", "renormalise", "skip", "abort"]
"""What becomes of a message that does not come: it is waited for until it does; the receiver's own
numbers stand in for it; the others' weights grow to make up for it; its receiver keeps what it has
and leaves the others' unused; the run ends."""


@dataclass(frozen=True)
class Missing:
    """Who should have been heard and was not.

    Attributes:
        indptr: int64 [n+1]; the block's k-th node lacks those at ``indptr[k]:indptr[k+1]``. Empty
            where nothing is missing.
        senders: int64 [missing], node ids, ascending for each receiver.
    """

    indptr: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    senders: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.senders)

    def of(self, k: int) -> np.ndarray:
        """The ids of those whom the block's k-th node did not hear."""
        if not len(self):
            return self.senders
        return self.senders[self.indptr[k] : self.indptr[k + 1]]

    @property
    def counts(self) -> np.ndarray:
        """int64 [n]: how many messages each node lacks; empty where nothing is missing."""
        return np.diff(self.indptr)


@dataclass(frozen=True)
class Terms:
    """The terms of the sums of n receivers, by the ids of their senders.

    Attributes:
        indptr: int64 [n+1]; the k-th receiver's are at ``indptr[k]:indptr[k+1]``.
        own: bool [terms]: it is the receiver's own number that is added.
        values: float64 [terms], weights.
        heard: int64 [terms that are not own], which of the messages that came each of those is.
    """

    indptr: np.ndarray
    own: np.ndarray
    values: np.ndarray
    heard: np.ndarray

    @property
    def others(self) -> np.ndarray:
        """int64 [n+1]: the k-th receiver's terms that are not its own, among all such."""
        return np.concatenate([[0], np.cumsum(~self.own)])[self.indptr]

    @property
    def weights(self) -> np.ndarray:
        """float64 [terms that are not own]."""
        return self.values[~self.own]


def terms_of(
    ids: np.ndarray,
    weights: MixingMatrix,
    senders: np.ndarray,
    missing: Missing,
    on_missing: OnMissing | None,
    own: bool = True,
) -> Terms:
    """The terms of x_i <- sum_j w_ij m_j over j = i and those whom i heard.

    With a policy for those who are missing: ``self``: w_ii grows by their weights, so that rows
    keep their sum, and where losses are mutual W stays doubly stochastic; ``renormalise``: all
    weights of a row grow by the same factor; ``skip``: the row is i's own number; None: the terms
    of those who are missing are not there, and the others as they were.

    Args:
        ids: int64 [n], the receivers.
        senders: int64 [messages], who was heard, by receiver and then sender.
        own: the receivers' own numbers are among the terms. Without them nothing stands in for
            what is missing, and a row to skip is empty.

    Raises:
        ValueError: the weights are not those of the graph that was sent over.
    """
    indptr, columns, values = weights.rows(ids)
    receivers = np.repeat(np.arange(len(ids)), np.diff(indptr))
    mine = columns == ids[receivers]
    if not len(missing):
        _check(columns[~mine], senders)
        if own:
            return Terms(indptr, mine, values, np.arange(len(senders)))
        keep = ~mine
        return _terms(len(ids), receivers[keep], mine[keep], values[keep], np.arange(len(senders)))
    gone = _gone(ids, receivers, columns, missing)
    _check(columns[~mine & ~gone], senders)
    if not own:
        keep = ~mine
        receivers, columns, mine = receivers[keep], columns[keep], mine[keep]
        values, gone = values[keep], gone[keep]
    kept = ~gone
    heard = np.cumsum(kept & ~mine) - 1  # at terms that came
    lost = np.bincount(receivers[gone], values[gone], len(ids))
    lacks = missing.counts > 0
    needs, stands_in = lacks, lost  # who needs an own number, and its weight if it had none
    if on_missing == "skip":
        kept &= mine | ~lacks[receivers]
        values = np.where(lacks[receivers], 1.0, values)
        stands_in = np.ones_like(lost)
    elif on_missing == "renormalise":
        left = np.bincount(receivers[kept], values[kept], len(ids))
        needs = lacks & (left <= 0)
        factor = np.divide(left + lost, left, out=np.ones(len(ids)), where=lacks & (left > 0))
        values = values * factor[receivers]
    elif on_missing is None:
        needs = np.zeros_like(lacks)
    elif own:
        values = np.where(mine, values + lost[receivers], values)
    if own:  # the receiver's own where it had no weight
        bare = np.flatnonzero(needs & ~np.isin(np.arange(len(ids)), receivers[mine]))
        receivers, columns = np.append(receivers, bare), np.append(columns, ids[bare])
        mine, kept = np.append(mine, bare >= 0), np.append(kept, bare >= 0)
        values, heard = np.append(values, stands_in[bare]), np.append(heard, bare)
    order = np.lexsort((columns, receivers))
    order = order[kept[order]]
    mine = mine[order]
    return _terms(len(ids), receivers[order], mine, values[order], heard[order][~mine])


def _terms(
    n: int, receivers: np.ndarray, own: np.ndarray, values: np.ndarray, heard: np.ndarray
) -> Terms:
    indptr = np.concatenate([[0], np.cumsum(np.bincount(receivers, minlength=n))])
    return Terms(indptr.astype(np.int64), own, values, heard)


def _gone(
    ids: np.ndarray, receivers: np.ndarray, columns: np.ndarray, missing: Missing
) -> np.ndarray:
    """Which of the terms are of messages that did not come, bool [terms]."""
    places = np.repeat(np.arange(len(ids)), missing.counts)
    width = int(max(columns.max(initial=0), missing.senders.max(initial=0))) + 1
    gone = np.isin(receivers * width + columns, places * width + missing.senders)
    if np.count_nonzero(gone) != len(missing):
        raise ValueError("the mixing weights are not those of the graph of this exchange")
    return gone


def _check(columns: np.ndarray, senders: np.ndarray) -> None:
    if not np.array_equal(columns, senders):
        raise ValueError("the mixing weights are not those of the graph of this exchange")
