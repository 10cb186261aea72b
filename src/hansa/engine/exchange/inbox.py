"""What came of an exchange, and what nodes make of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.codec.messages import Messages, SparseRows, concatenate, select, whole_rows
from hansa.engine.exchange.holders import halve_held_rows_, mix_held_rows_
from hansa.engine.exchange.mixing import mix_rows_
from hansa.engine.exchange.overlay import add_sparse_, overlay_sparse_
from hansa.engine.exchange.terms import Missing, OnMissing, Terms, terms_of
from hansa.topology import MixingMatrix

if TYPE_CHECKING:
    from torch import Tensor


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
        on_missing: what becomes of those in sums (see :func:`terms_of`).
        lost: bool [messages that the block's nodes sent], by sender and then receiver: a fault of
            the run file took it on its way. Empty where none does.
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
    lost: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))

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
        terms = self.weighted(weights)
        if not isinstance(self.sent, torch.Tensor) or not isinstance(self.received, torch.Tensor):
            raise TypeError("only whole rows can be mixed; see overlay_ for parts of rows")
        n = len(rows)
        alias = rows.data_ptr() == self.sent.data_ptr() and rows.shape == self.sent.shape
        table, slots = self.received, self.slots[terms.heard]
        if not alias:
            # The messages are not the numbers that are mixed, so all of them are foreign rows.
            table, slots = torch.cat([self.sent, self.received]), slots + n
        index = np.empty(len(terms.own), dtype=np.int64)
        index[~terms.own] = slots
        index[terms.own] = np.repeat(np.arange(n), np.diff(terms.indptr))[terms.own]
        mix_rows_(rows, table, terms.indptr, index, terms.values)

    def overlay_(self, rows: Tensor, weights: MixingMatrix) -> None:
        """x_i <- x_i + sum_j w_ij (m_j - x_i) where j's message has a number, in place.

        As if each neighbour's missing numbers were the receiver's own. For a node all of whose
        messages are whole rows this is :meth:`mix_`, to the bit, whatever the others of its block
        hear.

        Raises:
            ValueError: the weights are not those of the graph that was sent over.
        """
        terms = self.weighted(weights)
        table, slots = self._parts()
        slots, others = slots[terms.heard], terms.others
        if not len(slots):
            return
        gaps = np.concatenate([[0], np.cumsum(table.counts[slots] != table.size)])
        whole = np.flatnonzero((np.diff(gaps[others]) == 0) & (np.diff(others) > 0))
        mixed = self._mixed(rows, whole, table, slots, terms)
        if len(whole) < len(rows):
            starts, ends = others[:-1].copy(), others[1:].copy()
            ends[whole] = starts[whole]  # these are mixed
            overlay_sparse_(rows, starts, ends, slots, terms.weights, table)
        if len(whole):
            rows[torch.from_numpy(whole)] = mixed

    def add_(self, target: Tensor, weights: MixingMatrix) -> None:
        """target_i <- target_i + sum_j w_ij m_j over the neighbours' messages, in place.

        Raises:
            ValueError: the weights are not those of the graph that was sent over.
        """
        terms = self.weighted(weights, own=False)
        if isinstance(self.sent, SparseRows):
            table, slots = self._parts()
            add_sparse_(target, terms.indptr, slots[terms.heard], terms.values, table)
            return
        for k in range(len(target)):
            span = slice(terms.indptr[k], terms.indptr[k + 1])
            if span.start == span.stop:
                continue
            rows = self.messages(k)[1]
            assert isinstance(rows, torch.Tensor)
            for weight, row in zip(terms.values[span], rows, strict=True):
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
        terms = self.weighted(weights, make_up=False)
        takes = np.zeros_like(terms.values)
        if take is not None:
            takes = self.weighted(take, make_up=False).values
        table, among = self._parts()
        slots = np.full(len(terms.own), -1, dtype=np.int64)
        slots[~terms.own] = among[terms.heard]
        mix_held_rows_(rows, held, terms.indptr, slots, terms.values, takes, table, lend)

    def halve_held_(self, rows: Tensor, held: np.ndarray) -> None:
        """x_i <- (x_i + m_j) / 2 for one message after the other, by sender, in place.

        So the last of several counts most. A group that the receiver does not hold is copied; one
        that nobody sent stays as it is.

        Args:
            rows, held: as for :meth:`mix_held_`.

        Raises:
            ValueError: ``held`` is not of the messages' groups.
        """
        table, slots = self._parts()
        halve_held_rows_(rows, held, self.indptr, slots, table)

    def weighted(self, weights: MixingMatrix, own: bool = True, make_up: bool = True) -> Terms:
        """The terms of the receivers' sums.

        Args:
            own: the receivers' own numbers are among them.
            make_up: what is missing is made up for by :attr:`on_missing`; else its terms are not
                there.

        Raises:
            ValueError: the weights are not those of the graph that was sent over.
        """
        policy = self.on_missing if make_up else None
        return terms_of(self.ids, weights, self.senders, self.missing, policy, own)

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
        self, rows: Tensor, who: np.ndarray, table: SparseRows, slots: np.ndarray, terms: Terms
    ) -> Tensor:
        """The mixed rows of the receivers ``who``, who got whole rows only.

        Args:
            slots: int64 [terms that are not own], where each is in the table.
        """
        n, mixed = len(who), rows[torch.from_numpy(who)]
        if not n:
            return mixed
        receivers = np.repeat(np.arange(len(rows)), np.diff(terms.indptr))
        chosen, own = np.isin(receivers, who), terms.own
        needed, place = np.unique(slots[chosen[~own]], return_inverse=True)
        whole = torch.stack([table.row(int(k))[1] for k in needed]).to(rows.device)
        index = np.empty(np.count_nonzero(chosen), dtype=np.int64)
        index[~own[chosen]] = n + place
        index[own[chosen]] = np.arange(n)
        starts = np.concatenate([[0], np.cumsum(np.diff(terms.indptr)[who])])
        mix_rows_(mixed, whole, starts, index, terms.values[chosen])
        return mixed
