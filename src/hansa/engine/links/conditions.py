"""What a link is like at any time: delay, rate, chances, and when nothing passes."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

BURST = 64 * 1024
RESEND = 0.2


@dataclass(frozen=True)
class Conditions:
    """A directed link for some time.

    Attributes:
        delay: s from the moment that a frame has left until it is there.
        jitter: s; the delay of a frame is uniform in ``delay`` ± ``jitter``.
        rate: bytes a second; 0: nothing passes, inf: no limit.
        burst: bytes that pass at once after a pause (the depth of the token bucket).
        loss: chance that a frame is lost on its way and goes out again.
        resend: s after which its sender notices.
        duplicate: chance that a frame comes twice.
        corrupt: chance that a frame comes with wrong bytes.
    """

    delay: float = 0.0
    jitter: float = 0.0
    rate: float = math.inf
    burst: float = float(BURST)
    loss: float = 0.0
    resend: float = RESEND
    duplicate: float = 0.0
    corrupt: float = 0.0


@dataclass(frozen=True)
class Course:
    """A directed link over time.

    Attributes:
        starts: s, ascending from 0; from each on the condition of the same index holds.
        conditions: at least one.
        cuts: [from, until) s in which nothing passes, ascending, apart from each other.
    """

    starts: tuple[float, ...] = (0.0,)
    conditions: tuple[Conditions, ...] = (Conditions(),)
    cuts: tuple[tuple[float, float], ...] = ()
    _ends: tuple[float, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ends", tuple(until for _, until in self.cuts))

    @property
    def plain(self) -> bool:
        """Whether frames pass as if there were no course."""
        return self.conditions == (Conditions(),) and not self.cuts

    def at(self, now: float) -> Conditions:
        """What holds at a time."""
        return self.conditions[bisect_right(self.starts, now) - 1 if now > 0 else 0]

    def change(self, now: float) -> float:
        """The first moment after ``now`` at which the conditions change, s; inf: never."""
        index = bisect_right(self.starts, now)
        return self.starts[index] if index < len(self.starts) else math.inf

    def cut(self, start: float, end: float) -> float | None:
        """When the last cut is over that falls into [start, end], s; None: there is none."""
        over = None
        for index in range(bisect_right(self._ends, start), len(self.cuts)):
            begins, until = self.cuts[index]
            if begins > end:
                break
            over = until
        return over


def merged(cuts: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Intervals in order, those that overlap or touch as one."""
    done: list[tuple[float, float]] = []
    for begins, until in sorted(cuts):
        if done and begins <= done[-1][1]:
            done[-1] = done[-1][0], max(done[-1][1], until)
        else:
            done.append((begins, until))
    return tuple(done)
