"""Rows and what goes with them: in one message where a codec is exact, in two where it is not."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.lazy import torch
from hansa.codec import Codec, Dense, Lossless, whole_rows
from hansa.engine import Block, Inbox, Send
from hansa.engine.exchange.wire import HEADER_BYTES
from hansa.topology import Graph

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Mail:
    """The messages of an exchange, and where what went with them is: in them, or on its own.

    Attributes:
        held: int64 [H], the numbers of a row that travelled, where not all did; who takes a
            message out gets a whole row, 0 elsewhere.
        size: how many numbers the whole row has.
    """

    inbox: Inbox
    aside: Inbox | None
    held: Tensor | None = None
    size: int = 0

    def table(
        self, who: np.ndarray, size: int, widths: list[int]
    ) -> tuple[Tensor, np.ndarray, list[tuple[Tensor, np.ndarray]]]:
        """The one message that each of ``who`` got.

        Returns:
            (the different rows [m, size], which of them each got, the same of each thing aside).
        """
        rows, which = self.inbox.table(who)
        rows = self._spread(rows)
        if self.aside is None:
            return rows, which, []
        rest, whose = (rows[:, size:], which) if self.aside is self.inbox else self.aside.table(who)
        return rows[:, :size], which, [(part, whose) for part in rest.split(widths, dim=1)]

    def got(self, who: np.ndarray) -> np.ndarray:
        """Which of ``who``, positions [k] of nodes who wait for one message each, have all of it.

        bool [k].
        """
        boxes = [self.inbox] if self.aside is None else [self.inbox, self.aside]
        return np.all([np.diff(box.indptr)[who] == 1 for box in boxes], axis=0)

    def lost(self, graph: Graph, block: Block) -> np.ndarray:
        """Ids of those to whom not all that this block sent along the graph gets, int64."""
        receivers = graph.transpose().rows(block.ids)[1]
        boxes = [self.inbox] if self.aside is None else [self.inbox, self.aside]
        return np.concatenate([receivers[box.lost] for box in boxes])

    def messages(self, at: int) -> tuple[np.ndarray, Tensor, Tensor]:
        """(senders, their rows, rows whose last numbers are what went aside) of a node, to read.

        Of a sender both messages came, where there are two.
        """
        senders, rows = self.inbox.messages(at, shared=True)
        whole = self._spread(whole_rows(rows))
        if self.aside is None:
            return senders, whole, whole[:, :0]
        others, rest = self.aside.messages(at)
        if self.aside is self.inbox or np.array_equal(senders, others):
            return senders, whole, whole_rows(rest)
        both, one, two = np.intersect1d(senders, others, return_indices=True)
        return both, whole[torch.from_numpy(one)], whole_rows(rest)[torch.from_numpy(two)]

    def _spread(self, rows: Tensor) -> Tensor:
        """Messages [k, H + ...] with their numbers at their places in rows [k, size + ...]."""
        if self.held is None:
            return rows
        count = len(self.held)
        whole = rows.new_zeros(len(rows), self.size + rows.shape[1] - count)
        whole[:, self.held] = rows[:, :count]
        whole[:, self.size :] = rows[:, count:]
        return whole


def post(
    graph: Graph,
    codec: Codec,
    kind: str,
    senders: np.ndarray,
    rows: Tensor,
    aside: list[Tensor],
    held: Tensor | None = None,
    turn: int | None = None,
    hears: Graph | None = None,
) -> Generator[Send, Inbox, Mail]:
    """Send ``rows`` [k, K] of the nodes at ``senders``, with ``aside`` rows [k, ...] each.

    What does not come is left out.

    Args:
        held: int64, the numbers of each row that are sent; None: all.
        turn, hears: of the exchange (see :class:`~hansa.engine.Send`).
    """
    size = rows.shape[1]
    if held is not None:
        rows = rows[:, held]
    beside = sum(part.shape[1] for part in aside)
    if is_exact(codec) and aside:
        rows = joined(rows, aside)
    own = beside if is_exact(codec) else 0
    how: dict[str, Any] = {"senders": senders, "turn": turn, "on_missing": "skip", "hears": hears}
    inbox = yield Send(rows, graph, codec, kind, beside=own, **how)
    if is_exact(codec) or not aside:
        return Mail(inbox, inbox if aside else None, held, size)
    rest = torch.cat(aside, dim=1)
    more = yield Send(rest, graph, Dense(), f"{kind}+", beside=beside, **how)
    return Mail(inbox, more, held, size)


def post_bytes(codec: Codec, row: Tensor, aside: int) -> int:
    """Bytes that :func:`post` sends for one ``row`` [1, K] and so many numbers aside."""
    if is_exact(codec):
        row, aside = torch.cat([row, row.new_zeros(1, aside)], dim=1), 0
    more = 4 * aside + HEADER_BYTES if aside else 0
    return int(codec.size(row)[0]) + HEADER_BYTES + more


def is_exact(codec: Codec) -> bool:
    """Whether a codec gives back the very numbers, so that anything can travel in one message."""
    return isinstance(codec, Lossless) or (isinstance(codec, Dense) and codec.dtype == "float32")


def joined(rows: Tensor, aside: list[Tensor]) -> Tensor:
    """Rows with what goes with them behind; without a copy where they lie so already."""
    width = rows.shape[1] + sum(part.shape[1] for part in aside)
    last = aside[-1]
    adjacent = last.data_ptr() + 4 * last.shape[1] == rows.data_ptr() + 4 * width
    same = last.untyped_storage().data_ptr() == rows.untyped_storage().data_ptr()
    if len(rows) and adjacent and same and last.stride() == rows.stride():
        return rows.as_strided((len(rows), width), rows.stride())
    return torch.cat([rows, *aside], dim=1)
