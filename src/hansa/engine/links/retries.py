"""When to reach for a peer again."""

from __future__ import annotations

import random

_FIRST = 0.05  # seconds


class Retries:
    """Waits between attempts: doubled with each that fails up to a limit, and spread by a half.

    Spread, so that sites that lost each other at one moment do not all come back at one (Brooker,
    "Exponential backoff and jitter", 2015).

    Args:
        longest: seconds between two attempts at most.
        chance: what spreads them; no result depends on it.

    Attributes:
        due: when the next attempt may be made, s.
        failures: attempts in vain since the last link that was of use.
    """

    def __init__(self, longest: float, chance: random.Random) -> None:
        self._longest, self._chance = longest, chance
        self.due = 0.0
        self.failures = 0

    def failed(self, now: float) -> None:
        """An attempt was in vain, or a link broke."""
        wait = min(self._longest, _FIRST * 2.0 ** min(self.failures, 30))
        self.failures += 1
        self.due = now + wait * (0.5 + self._chance.random() / 2)

    def broke(self, now: float, *, useful: bool) -> None:
        """A link broke. If it was of use, the next attempt counts as a first one."""
        if useful:
            self.failures = 0
        self.failed(now)

    def rest(self, now: float) -> None:
        """There is nobody: as much time is left as there may be."""
        self.due = now + self._longest

    def hurry(self, now: float) -> None:
        """Something has changed, such as the address: the next attempt may be made at once."""
        self.failures, self.due = 0, now
