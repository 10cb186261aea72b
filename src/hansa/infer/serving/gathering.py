"""One request on its way through all members: what has come, and whether it is enough."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator

import numpy as np

from hansa.infer.robust.answering import Answer, Answerer
from hansa.infer.serving.endpoint import Outcome


class Gathering:
    """Collects members' rows until every example's answer stands.

    Args:
        batch: b examples, each decided on its own.
        members: n.
        quorum: valid rows that an answer needs.
        early: whether an answer that nothing can change any more is taken at once.
    """

    def __init__(
        self, answerer: Answerer, batch: int, members: int, quorum: int, early: bool
    ) -> None:
        self.answerer, self.quorum, self.early = answerer, quorum, early
        self.rows = np.zeros((batch, members, answerer.width))
        self.valid = np.zeros((batch, members), dtype=bool)
        self.answers: list[Answer | None] = [None] * batch
        self.outcomes: dict[int, Outcome] = {}
        self.pending: set[int] = set()
        self.settled = asyncio.Event()

    def awaits(self, members: Collection[int]) -> None:
        """Calls to so many members have begun."""
        self.pending = set(members)
        self.settled.clear()
        if not members:
            self.settled.set()

    def short(self) -> bool:
        """Whether an example has no quorum yet."""
        open_ = [k for k, answer in enumerate(self.answers) if answer is None]
        return bool((self.valid[open_].sum(1) < self.quorum).any())

    def took(self, member: int, outcome: Outcome) -> None:
        """A member's call has ended."""
        self.pending.discard(member)
        self.outcomes[member] = outcome
        if outcome.reply is not None:
            self.rows[:, member] = np.where(outcome.reply.valid[:, None], outcome.reply.rows, 0)
            self.valid[:, member] = outcome.reply.valid
        if not self.pending:
            self.settled.set()
        elif self.early and outcome.reply is not None:
            out = len(self.pending)
            self._decide(lambda rows, which: self.answerer.decisions(rows, which, out))
            if None not in self.answers:
                self.settled.set()

    def finish(self) -> bool:
        """Answer what is not decided yet with the rows that are there; whether there are enough."""
        self._decide(self.answerer.answers)
        return None not in self.answers

    def _decide(self, decide: Callable[..., list[Answer] | list[Answer | None]]) -> None:
        for which, examples in self._alike():
            rows = self.rows[examples][:, which]
            for k, answer in zip(examples, decide(rows, which), strict=True):
                self.answers[k] = answer

    def _alike(self) -> Iterator[tuple[list[int], list[int]]]:
        """Members with valid rows, a quorum at least, and the open examples that have them."""
        groups: dict[bytes, list[int]] = {}
        for k, answer in enumerate(self.answers):
            if answer is None and self.valid[k].sum() >= self.quorum:
                groups.setdefault(self.valid[k].tobytes(), []).append(k)
        for examples in groups.values():
            yield np.flatnonzero(self.valid[examples[0]]).tolist(), examples
