"""A circuit breaker: a member that fails again and again is left alone for a while.

Closed: calls go through, and ``failures`` in a row open it. Open: none goes through for a time,
which doubles with every failed trial. Then half-open: one call is the trial; its success closes the
breaker, its failure opens it again. What a call comes to counts only in the period in which it
began: a success of a call from before the breaker opened says nothing about now and cannot close it
(the flaw of ray's pull request 65068). A forced call, made while it is open because all others are
too few, closes it by its success, and by its failure changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half_open"]
LONGEST = 16
"""How many times its first wait an open breaker waits at most."""


@dataclass(frozen=True)
class Permit:
    """A call that may be made, and the period in which it began.

    Attributes:
        forced: it is made though the breaker is open, since nobody else is left.
    """

    period: int
    forced: bool = False


class Breaker:
    """One member's.

    Args:
        failures: calls that fail in a row until it opens.
        wait_s: seconds that it is open at first.
        clock: seconds that never go back.
    """

    def __init__(
        self, failures: int, wait_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.failures, self.wait_s, self._clock = failures, wait_s, clock
        self._period = 0
        self._failed = 0
        self._trips = 0
        self._until: float | None = None
        self._trial: int | None = None

    @property
    def state(self) -> State:
        """Where it stands now."""
        if self._until is None:
            return "closed"
        return "open" if self._clock() < self._until else "half_open"

    @property
    def wait_left(self) -> float:
        """Seconds until a call may be tried; 0 where one may now."""
        return 0.0 if self._until is None else max(0.0, self._until - self._clock())

    def permit(self) -> Permit | None:
        """Leave to make a call, or None; whoever gets it must tell what came of it."""
        state = self.state
        if state == "open" or (state == "half_open" and self._trial == self._period):
            return None
        if state == "half_open":
            self._trial = self._period
        return Permit(self._period)

    def forced(self) -> Permit:
        """Leave to make a call whatever the state: its success closes the breaker, its failure
        changes nothing."""
        return Permit(self._period, forced=True)

    def succeeded(self, permit: Permit) -> None:
        """The call brought what was asked for."""
        if permit.period != self._period:
            return
        if self._until is not None:  # the trial: a new period begins
            self._period += 1
        self._failed = self._trips = 0
        self._until = self._trial = None

    def failed(self, permit: Permit) -> None:
        """The call brought nothing of use."""
        if permit.period != self._period or permit.forced:
            return
        self._failed += 1
        if self._until is None and self._failed < self.failures:
            return
        self._period += 1
        self._until = self._clock() + self.wait_s * min(2**self._trips, LONGEST)
        self._trips += 1
        self._failed, self._trial = 0, None

    def ended(self, permit: Permit) -> None:
        """The call was given up, or came to something that says nothing of the member."""
        if permit.period == self._period and not permit.forced:
            self._trial = None
