"""Asking a platform: agents in turn, each at its pace, every query in its ledger before it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from hansa.audit.black_box import REFUSED, Ask, Barred, BlackBox, NotServed, Unanswered
from hansa.audit.ledger import Ledger
from hansa.base.errors import RunError

_FIRST_WAIT = 1.0
"""Seconds before a call that was not taken is made again; doubled each time, unless it is told."""
_LONGEST_WAIT = 60.0
_NOW = 1e-6
"""Seconds that are no wait: sums of waits do not meet to the last bit."""


@dataclass
class Bucket:
    """A token bucket: ``rate`` queries a second, ``burst`` at once. It begins empty.

    Empty, since nobody knows what was asked just before an audit is resumed.
    """

    rate: float
    burst: int
    tokens: float = 0.0
    at: float = 0.0

    def wait(self, count: int, now: float) -> float:
        """Seconds until ``count`` queries may be asked."""
        if not self.at:
            self.at = now
        self.tokens = min(float(self.burst), self.tokens + (now - self.at) * self.rate)
        self.at = now
        return max(0.0, (count - self.tokens) / self.rate)

    def take(self, count: int) -> None:
        """Ask them."""
        self.tokens -= count


@dataclass
class Desk:
    """Where one agent asks from.

    Attributes:
        ready: the time before which it makes no call.
        waited: seconds that its call without an answer has waited so far.
    """

    ledger: Ledger
    bucket: Bucket | None = None
    left: list[int] = field(default_factory=list)
    ready: float = 0.0
    waited: float = 0.0
    tries: int = 0


class Asking:
    """Asks for all agents.

    Args:
        box: the platform; ``ask`` is what it opened.
        ledgers: of the agents, in order.
        tell: is given the queries spent by all after each call.
        clock, sleep: seconds; replaced in tests.
    """

    def __init__(
        self,
        box: BlackBox,
        ask: Ask,
        ledgers: Sequence[Ledger],
        tell: Callable[[int], None] = lambda spent: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.box, self.ask, self.tell = box, ask, tell
        self.clock, self.sleep = clock, sleep
        buckets: list[Bucket | None] = [Bucket(*box.pace) if box.pace else None for _ in ledgers]
        if box.one_pace:
            buckets = buckets[:1] * len(ledgers)
        self.desks = [Desk(*pair) for pair in zip(ledgers, buckets, strict=True)]
        for desk in self.desks:  # what the platform asked for before an interrupt
            if (call := desk.ledger.pending) is not None:
                desk.ready = clock() + max(0.0, call.until - time.time())
        self._turn, self._interrupted = 0, False
        self._caller = ThreadPoolExecutor(1, thread_name_prefix="hansa-audit")

    @property
    def spent(self) -> int:
        """Queries asked by all."""
        return sum(desk.ledger.spent for desk in self.desks)

    def __call__(self, wanted: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Answers int8 [k] of each agent to its rows int64 [k]; -1 where there is none.

        What is in the ledgers already is not asked again.

        Raises:
            RunError: the platform does not take a call, or refuses an account. What was asked is
                kept.
        """
        self.settle()
        for desk, rows in zip(self.desks, wanted, strict=True):
            desk.left = [row for row in rows.tolist() if row not in desk.ledger.answers]
        while busy := [desk for desk in self._turns() if desk.left]:
            desk = min(busy, key=self._due)
            self._turn = self.desks.index(desk) + 1
            call = desk.ledger.pending
            due = call.rows if call else desk.left[: self.box.batch]
            self._make(desk, due)
            self._heed()
            if desk.ledger.pending is None:
                desk.left = desk.left[len(due) :]
        return [
            np.array([max(d.ledger.answers[row], REFUSED) for row in rows.tolist()], dtype=np.int8)
            for d, rows in zip(self.desks, wanted, strict=True)
        ]

    def settle(self) -> None:
        """Come to an end with calls that an interrupt left without an answer."""
        for desk in self.desks:
            call = desk.ledger.pending
            if call and call.state == "asking" and not self.box.repeatable:
                desk.ledger.lost(call, "the audit was ended while it was on its way")
            while desk.ledger.pending is not None:
                self._make(desk, desk.ledger.pending.rows)
                self._heed()

    def _heed(self) -> None:
        """End where an interrupt came while a call was on its way: by now its answer is noted."""
        if self._interrupted:
            raise KeyboardInterrupt

    def _turns(self) -> list[Desk]:
        """All desks, beginning with the one after that which asked last."""
        return self.desks[self._turn :] + self.desks[: self._turn]

    def _due(self, desk: Desk) -> float:
        """Seconds until an agent may make its next call."""
        now = self.clock()
        count = len(
            desk.ledger.pending.rows if desk.ledger.pending else desk.left[: self.box.batch]
        )
        pace = desk.bucket.wait(count, now) if desk.bucket else 0.0
        due = max(pace, desk.ready - now)
        return due if due > _NOW else 0.0

    def _make(self, desk: Desk, rows: list[int]) -> None:
        """Wait, make a call that is in the ledger by then, and note what came of it."""
        ledger = desk.ledger
        while (due := self._due(desk)) > 0:
            self.sleep(due)
        if desk.bucket:
            desk.bucket.take(len(rows))
        call = ledger.pending
        if call is None:
            call = ledger.asking(rows)
        else:
            ledger.repeated(call)
        key = ledger.key(call.number)
        try:
            answers = self._answers(np.array(call.rows, dtype=np.int64), ledger.agent, key)
        except NotServed as error:
            ledger.deferred(call, str(error), self._next_wait(desk, error))
            self._put_off(desk, error)
            return
        except Unanswered as error:
            if self.box.repeatable:  # it stays pending, and is made again
                self._put_off(desk, NotServed(str(error)))
                return
            ledger.lost(call, str(error))
        except Barred as error:
            ledger.deferred(call, str(error))
            raise RunError(f"{ledger.agent}: {error}", repeats=True) from error
        else:
            ledger.answered(call, np.asarray(answers))
        desk.waited, desk.tries = 0.0, 0
        self.tell(self.spent)

    def _answers(self, rows: np.ndarray, agent: str, key: str) -> np.ndarray:
        """Ask. An interrupt waits for a call that cannot be made again; a second one does not."""
        if self.box.repeatable:
            return self.ask(rows, agent, key)
        call = self._caller.submit(self.ask, rows, agent, key)
        try:
            return call.result()
        except KeyboardInterrupt:
            self._interrupted = True
            return call.result()

    def _next_wait(self, desk: Desk, error: NotServed) -> float:
        """Seconds to wait: as long as the platform says, or twice as long as the last time."""
        if error.wait is not None:
            return error.wait
        return min(_LONGEST_WAIT, _FIRST_WAIT * 2**desk.tries)

    def _put_off(self, desk: Desk, error: NotServed) -> None:
        """Have an agent wait before its call is made again."""
        wait = self._next_wait(desk, error)
        desk.tries += 1
        desk.waited += wait
        if desk.waited > self.box.patience:
            problem = f"{error}, and would be asked again after {desk.waited:.0f} s in all"
            raise RunError(f"{desk.ledger.agent}: {problem}; give_up is {self.box.patience:.0f} s")
        desk.ready = self.clock() + wait
