"""What came of an exchange, and what nodes make of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from hansa.base.lazy import torch
from hansa.codec.messages import Messages, SparseRows, concatenate, select, whole_rows
from hansa.engine.exchange.holders import mix_held_rows_
from hansa.engine.exchange.mixing import mix_rows_
from hansa.engine.exchange.overlay import add_sparse_, overlay_sparse_
from hansa.topology import MixingMatrix

if TYPE_CHECKING:
    from torch import Tensor

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


@dataclass(frozen=True)
class Inbox:
    """What the nodes of a block received in one exchange.

    The messages of the block's k-th node are those at ``indptr[k]:indptr[k+1]``, by ascending
    sender. They are not copied to each receiver: message e is the one at ``slots[e]`` of the
    table made of ``sent`` followed by ``received``.

    Attributes:
        ids: int64 [n], the receivers.
        indptr: int64 [n+1].
        senders: int64 [messages].
        slots: int64 [messages].
        sent: what the block's own nodes sent, as it left them.
        received: what came from elsewhere or was changed by the codec on the way.
        arrivals: float64 [messages], modelled time at which each was sent and on its way over.
        missing: what should have come and did not; the other arrays hold what came.
        on_missing: what becomes of those in :meth:`mix_`, :meth:`overlay_` and :meth:`add_`.
    """

    ids: np.ndarray
    indptr: np.ndarray
    senders: np.ndarray
    slots: np.ndarray
    sent: Messages
    received: Messages
    arrivals: np.ndarray = field(default_factory=lambda: np.zeros(0))
    missing: Missing = field(default_factory=Missing)
    on_missing: OnMissing = "self"

    def __len__(self) -> int:
        return len(self.senders)

    def table(self, who: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """The one message, a whole row, that each node at ``who`` [k] got.

        Returns:
            (the different messages [m, K], which of them each node got [k]).

        Raises:
            ValueError: some of these nodes got none or several.
        """
        if (np.diff(self.indptr)[who] != 1).any():
            raise ValueError("not every one of these nodes got exactly one message")
        slots, which = np.unique(self.slots[self.indptr[:-1][who]], return_inverse=True)
        sent, received = whole_rows(self.sent), whole_rows(self.received)
        both = [sent[int(s)] if s < len(sent) else received[int(s) - len(sent)] for s in slots]
        return torch.stack(both) if both else sent[:0], which

    def messages(self, k: int, shared: bool = False) -> tuple[np.ndarray, Messages]:
        """(senders, their messages) that the block's k-th node got, by ascending sender.

        Args:
            shared: they are only read: they may be the very rows that somebody has.
        """
        span = slice(self.indptr[k], self.indptr[k + 1])
        slots, n = self.slots[span], len(self.sent)
        if (slots < n).all():
            return self.senders[span], select(self.sent, slots, shared)
        if (slots >= n).all():
            return self.senders[span], select(self.received, slots - n, shared)
        parts = [
            select(self.sent, slots[e : e + 1])
            if slots[e] < n
            else select(self.received, slots[e : e + 1] - n)
            for e in range(len(slots))
        ]
        return self.senders[span], concatenate(parts)

    def mix_(self, rows: Tensor, weights: MixingMatrix) -> None:
        """x_i <- w_ii x_i + sum_j w_ij m_j in place, for x = ``rows`` [n, K] and whole rows m.

        The terms are added in the order of their sender's id, i's own at its place.

        Raises:
            ValueError: the weights are not those of the graph that was sent over.
        """
        indptr, own, values = self.weighted(weights)
        if not isinstance(self.sent, torch.Tensor) or not isinstance(self.received, torch.Tensor):
            raise TypeError("only whole rows can be mixed; see overlay_ for parts of rows")
        n = len(rows)
        alias = rows.data_ptr() == self.sent.data_ptr() and rows.shape == self.sent.shape
        table, slots = self.received, self.slots
        if not alias:
            # The messages are not the numbers that are mixed, so all of them are foreign rows.
            table, slots = torch.cat([self.sent, self.received]), slots + n
        index = np.empty(len(own), dtype=np.int64)
        index[~own] = slots
        index[own] = np.repeat(np.arange(n), np.diff(indptr))[own]
        mix_rows_(rows, table, indptr, index, values)

    def overlay_(self, rows: Tensor, weights: MixingMatrix) -> None:
        """x_i <- x_i + sum_j w_ij (m_j - x_i) where j's message has a number, in place.

        As if each neighbour's missing numbers were the receiver's own. For a node all of whose
        messages are whole rows this is :meth:`mix_`, to the bit, whatever the others of its block
        hear.

        Raises:
            ValueError: the weights are not those of the graph that was sent over.
        """
        indptr, own, values = self.weighted(weights)
        table, slots = self._parts()
        if not len(slots):
            return
        gaps = np.concatenate([[0], np.cumsum(table.counts[slots] != table.size)])
        whole = np.flatnonzero((np.diff(gaps[self.indptr]) == 0) & (np.diff(self.indptr) > 0))
        mixed = self._mixed(rows, whole, table, slots, indptr, own, values)
        if len(whole) < len(rows):
            starts, ends = self.indptr[:-1].copy(), self.indptr[1:].copy()
            ends[whole] = starts[whole]  # these are mixed
            overlay_sparse_(rows, starts, ends, slots, values[~own], table)
        if len(whole):
            rows[torch.from_numpy(whole)] = mixed

    def add_(self, target: Tensor, weights: MixingMatrix) -> None:
        """target_i <- target_i + sum_j w_ij m_j over the neighbours' messages, in place.

        Raises:
            ValueError: the weights are not those of the graph that was sent over.
        """
        _, own, values = self.weighted(weights)
        if isinstance(self.sent, SparseRows):
            table, slots = self._parts()
            add_sparse_(target, self.indptr, slots, values[~own], table)
            return
        for k in range(len(target)):
            span = slice(self.indptr[k], self.indptr[k + 1])
            rows = self.messages(k)[1]
            assert isinstance(rows, torch.Tensor)
            for weight, row in zip(values[~own][span], rows, strict=True):
                target[k].add_(row, alpha=float(weight))

    def mix_held_(
        self,
        rows: Tensor,
        weights: MixingMatrix,
        held: np.ndarray,
        take: MixingMatrix | None = None,
        lend: bool = False,
    ) -> None:
        """x_i <- the mean of x_i and the m_j over those who hold a group of numbers, in place.

        A message holds the groups that it has; the receiver those in ``held``. For each group
        that was heard it is sum_j w_ij m_j / sum_j w_ij over the holders, the receiver among them
        if it is one, the terms added in the order of their sender's id. A group that nobody sent
        stays as it is. One whose sender is missing has that holder less, whatever
        ``on_missing`` is.

        Args:
            rows: x [n, K].
            held: bool [n, K / group]; the groups that a receiver takes over are set.
            take: the weights by which a receiver takes over groups that it does not hold; None:
                it does not.
            lend: those who lack a group lend their weight to a receiver that holds it, as in
                :meth:`overlay_`: x_i <- x_i + sum_j w_ij (m_j - x_i) over the holders.

        Raises:
            ValueError: the weights are not those of the graph that was sent over, or ``held`` is
                not of the messages' groups.
        """
        indptr, own, values = self.weighted(weights)
        takes = np.zeros_like(values) if take is None else self.weighted(take)[2]
        table, among = self._parts()
        slots = np.full(len(own), -1, dtype=np.int64)
        slots[~own] = among
        mix_held_rows_(rows, held, indptr, slots, values, takes, table, lend)

    def weighted(self, weights: MixingMatrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(indptr, which terms are a node's own, values) of the receivers' sums.

        Raises:
            ValueError: the weights are not those of the graph that was sent over.
        """
        indptr, columns, values = weights.rows(self.ids)
        own = columns == np.repeat(self.ids, np.diff(indptr))
        if not np.array_equal(columns[~own], self.senders):
            raise ValueError("the mixing weights are not those of the graph of this exchange")
        return indptr, own, values

    def _parts(self) -> tuple[SparseRows, np.ndarray]:
        """All messages in one table, and where each received one is in it."""
        if not isinstance(self.sent, SparseRows) or not isinstance(self.received, SparseRows):
            raise TypeError("these messages are not parts of rows")
        if not len(self.received):
            return self.sent, self.slots
        if len(self.slots) and (self.slots >= len(self.sent)).all():
            return self.received, self.slots - len(self.sent)
        table = concatenate([self.sent, self.received])
        assert isinstance(table, SparseRows)
        return table, self.slots

    def _mixed(
        self,
        rows: Tensor,
        who: np.ndarray,
        table: SparseRows,
        slots: np.ndarray,
        indptr: np.ndarray,
        own: np.ndarray,
        values: np.ndarray,
    ) -> Tensor:
        """The mixed rows of the receivers ``who``, who got whole rows only."""
        n, mixed = len(who), rows[torch.from_numpy(who)]
        if not n:
            return mixed
        receivers = np.repeat(np.arange(len(rows)), np.diff(indptr))
        terms = np.isin(receivers, who)
        needed, place = np.unique(slots[terms[~own]], return_inverse=True)
        whole = torch.stack([table.row(int(k))[1] for k in needed]).to(rows.device)
        index = np.empty(np.count_nonzero(terms), dtype=np.int64)
        index[~own[terms]] = n + place
        index[own[terms]] = np.arange(n)
        starts = np.concatenate([[0], np.cumsum(np.diff(indptr)[who])])
        mix_rows_(mixed, whole, starts, index, values[terms])
        return mixed
