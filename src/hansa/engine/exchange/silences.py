"""How long each peer of an asynchronous run may be of no use to who waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping


class Silences:
    """The silence of each peer, from its last message of use, or from when the waiting began.

    Of use is what is waited for: there is an end of such messages. Of all else that makes sense a
    peer can say as much as it likes. It shows that the peer is at work, and puts the end of its
    silence off too, but no longer than as many times the deadline as there are sites since it was
    last of use.

    Args:
        seconds: how long each peer may be silent.
        now: a clock, s.
    """

    def __init__(
        self, seconds: Mapping[int, float], now: Callable[[], float] = time.monotonic
    ) -> None:
        self.seconds, self._now = dict(seconds), now
        self._sites = len(seconds) + 1
        self.begin()

    def begin(self) -> None:
        """Who waits has worked until now."""
        self._heard = dict.fromkeys(self.seconds, self._now())
        self._useful = dict(self._heard)

    def useful(self, peer: int) -> None:
        """A peer has said what is waited for, or that it has come further."""
        self._heard[peer] = self._useful[peer] = self._now()

    def lives(self, peer: int) -> None:
        """A peer has said something else that makes sense."""
        now = self._now()
        if now - self._useful[peer] <= self._sites * self.seconds[peer]:
            self._heard[peer] = now

    def passed(self, peers: Iterable[int]) -> set[int]:
        """Those of these peers who have been silent for too long."""
        now = self._now()
        return {peer for peer in peers if now - self._heard[peer] > self.seconds[peer]}
