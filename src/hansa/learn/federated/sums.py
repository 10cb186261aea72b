"""What servers gather from their clients in a round, on its way through an aggregator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.lazy import torch
from hansa.engine import Block
from hansa.ensemble.aggregators import Aggregator, Mean
from hansa.learn.federated import counters

if TYPE_CHECKING:
    from torch import Tensor

UPDATE, REST = "", "rest "
"""What else is aggregated beside answers, which have names of letters alone."""


@dataclass
class Sums:
    """What the servers of a block have gathered, one entry a server.

    Attributes:
        size, sent: P, the parameters of a row, and how many of its numbers travel.
        states: the aggregator's, by name of what it aggregates: the parameters' updates, the other
            numbers' (statistics), and each of the clients' answers.
        came: how many updates came.
        heard: bool [clients], whose.
        share: float64 [r], their weights' sum; what the round was planned with adds up to 1.
        factor: float64 [r], what the method wants the aggregate to be multiplied with; 0 for
            nothing.
        latest: float64 [r], modelled time at which the last update had arrived.
        counters: float64 [r, C], weighted sums of the clients' counters.
        figures: the single numbers of the clients, by name.
        below: float64 [r], how many updates were no longer than a server's clip, less half of all;
            where it has one.
        update, rest, answers: once a server has :meth:`settled`, its aggregates: rows [P], of the
            numbers behind them, and [P] by name; zeros where too few came.
    """

    aggregator: Aggregator
    size: int
    sent: int
    states: list[dict[str, Any]]
    came: list[int]
    heard: np.ndarray
    share: np.ndarray
    factor: np.ndarray
    latest: np.ndarray
    counters: Tensor
    figures: list[list[dict[str, np.ndarray]]]
    below: np.ndarray
    update: dict[int, Tensor] = field(default_factory=dict)
    rest: dict[int, Tensor] = field(default_factory=dict)
    answers: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    @classmethod
    def start(
        cls, block: Block, aggregator: Aggregator, sent: int, names: tuple[str, ...] = ()
    ) -> Sums:
        """Nothing yet, of ``sent`` numbers of each row and answers by these names."""
        r, size = len(block.residents), block.trainer.layout.trainable
        widths = {UPDATE: size, **dict.fromkeys(names, size)}
        if sent > size:
            widths[REST] = sent - size
        like = torch.zeros(max(widths.values()), device=block.rows.device)
        return cls(
            aggregator,
            size,
            sent,
            [{k: aggregator.start(like[:w]) for k, w in widths.items()} for _ in range(r)],
            [0] * r,
            np.zeros(block.clients, dtype=bool),
            np.zeros(r),
            np.zeros(r),
            block.state["modelled_time"].numpy()[block.residents],
            torch.zeros(r, counters.count(block), dtype=torch.float64, device=block.rows.device),
            [[] for _ in range(r)],
            np.zeros(r),
        )

    def add(
        self,
        row: int,
        updates: Tensor,
        shares: np.ndarray,
        scales: np.ndarray,
        answers: dict[str, Tensor],
        held: Tensor | None = None,
    ) -> None:
        """Take what clients of one server sent.

        Args:
            updates: [k, sent]; the parameters' come first.
            shares: float64 [k], their weights.
            scales: float64 [k], what the parameters' updates are multiplied with first.
            answers: by name, [k, P].
            held: int64, the numbers of ``updates`` that these clients hold, ascending; None: all.
                A number's mean is over those who hold it; only the mean can do that.
        """
        states, size = self.states[row], self.size
        self._add(states[UPDATE], updates[:, :size], shares, scales, _below(held, 0, size))
        if REST in states:
            part = _below(held, size, self.sent)
            self._add(states[REST], updates[:, size:], shares, np.ones(len(shares)), part)
        for name, rows in answers.items():
            self.aggregator.add(states[name], rows, shares)
        self.came[row] += len(updates)

    def _add(
        self,
        state: Any,
        rows: Tensor,
        shares: np.ndarray,
        scales: np.ndarray,
        held: Tensor | None,
    ) -> None:
        if isinstance(self.aggregator, Mean):
            self.aggregator.add_held(state, rows, shares, scales, held)
        elif held is None:
            self.aggregator.add_scaled(state, rows, shares, scales)
        else:
            raise TypeError(f"{self.aggregator.name} asks everybody for every number")

    def settle(self, row: int, short: bool = False) -> None:
        """Aggregate what came for a server, if it is enough.

        Args:
            short: not all came that was planned, so that the weights of what did make up for it.
        """
        if short and self.share[row]:
            self.factor[row] /= self.share[row]
            self.counters[row] /= self.share[row]
        states = self.states[row]
        nothing = torch.zeros(0, device=self.counters.device)
        if self.came[row] >= self.aggregator.least:
            answers = {name: self.aggregator.end(state) for name, state in states.items()}
        else:
            widths = {k: self.sent - self.size if k == REST else self.size for k in states}
            answers = {name: nothing.new_zeros(width) for name, width in widths.items()}
        self.update[row], self.rest[row] = answers.pop(UPDATE), answers.pop(REST, nothing)
        self.answers[row] = answers
        states.clear()  # what it has kept


def _below(held: Tensor | None, first: int, end: int) -> Tensor | None:
    """Which of the numbers from ``first`` to ``end`` are held, counted from ``first``."""
    return None if held is None else held[(held >= first) & (held < end)] - first
