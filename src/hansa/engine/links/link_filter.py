"""What a link does to frames: a token bucket, a delay, and chances, in the time of whoever asks.

One object serves both worlds: a real link asks it when a frame may be written, and the modelled
clock when it would be there. It holds no clock, no timer and no bytes.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from hansa.engine.links.conditions import Conditions, Course

What = Literal["whole", "duplicate", "corrupt"]
_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIXES = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_ROUNDING = 1e-9  # a part of a second or of a frame that is none


class Passage(NamedTuple):
    """A frame that comes out of a link.

    Attributes:
        at: s.
        what: ``whole``; ``duplicate``: once more; ``corrupt``: with wrong bytes, and not whole.
    """

    at: float
    what: What


class Filter:
    """A directed link: frames go in one after the other and come out in that order.

    A frame waits until those before it have left, then for as many tokens as it has bytes: they
    grow at the link's rate and ``burst`` of them can be saved up. A frame longer than the burst
    takes what there is and waits for the rest, so that in any window no more passes than the
    window's rate, the burst, and the frame that the window begins with. What is lost goes out again
    ``resend`` seconds after it left, and what comes behind waits for it, as in TCP. Nothing is
    under way in a cut: what would be goes out when it is over.

    Args:
        course: what the link is like.
        key: of its chances; same key and frames, same fate.

    Attributes:
        waiting: passages that connections hold back until their time has come.
    """

    def __init__(self, course: Course, key: int = 0) -> None:
        self.course, self.key = course, key
        self._free = 0.0  # since when nothing is on its way out, s
        self._tokens = course.at(0.0).burst
        self._filled = 0.0  # when the tokens were counted, s
        self._last = 0.0  # when the last frame was there, s
        self._drawn = 0
        self.waiting = 0

    @property
    def state(self) -> tuple[float, float, float, float, int]:
        """All that changes, for :meth:`restore`."""
        return self._free, self._tokens, self._filled, self._last, self._drawn

    def restore(self, state: tuple[float, float, float, float, int]) -> None:
        """Go on from a :attr:`state`."""
        self._free, self._tokens, self._filled, self._last, self._drawn = state

    def clear(self, now: float) -> None:
        """A connection is lost: what had not come out of it never does, and the way is free.

        Unless another connection holds frames back still: they have their times, and what is
        offered next comes behind them.
        """
        if self.waiting:
            return
        self._free, self._last = min(self._free, now), min(self._last, now)
        if self._filled > now:  # its tokens were spent for nothing
            self._tokens, self._filled = 0.0, now

    def offer(self, now: float, nbytes: int) -> list[Passage]:
        """Send a frame: when it comes out and in what form, ascending.

        Args:
            now: s since the run's start; not before the last offer.
            nbytes: of the frame.
        """
        start = max(now, self._free)
        while True:
            left = self._leave(start, nbytes)
            there = self.course.at(left)
            if there.loss and self._draw() < there.loss:
                start = left + there.resend
                continue
            at = max(left + self._delay(there), self._last)
            over = self.course.cut(start, at)
            if over is None:
                break
            start = over
        self._free, self._last = left, at
        if there.corrupt and self._draw() < there.corrupt:
            return [Passage(at, "corrupt")]
        passages = [Passage(at, "whole")]
        if there.duplicate and self._draw() < there.duplicate:
            later = at + self._delay(there) - (there.delay - there.jitter)
            self._last = max(at, later)  # rounding puts none before the frame that it repeats
            passages.append(Passage(self._last, "duplicate"))
        return passages

    def down(self, now: float) -> float | None:
        """Seconds until a cut is over that the link is in now, or None."""
        over = self.course.cut(now, now)
        return None if over is None else over - now

    def arrival(self, now: float, nbytes: int) -> float:
        """When a frame is there whole, s, if it is offered anew after it came corrupt.

        The sender learns of that one way back later, and goes on after as long as for a loss.
        """
        while True:
            at, what = self.offer(now, nbytes)[0]
            if what == "whole":
                return at
            there = self.course.at(at)
            now = at + there.delay + there.resend

    def _delay(self, there: Conditions) -> float:
        if not there.jitter:
            return there.delay
        return there.delay + there.jitter * (2 * self._draw() - 1)

    def _leave(self, start: float, nbytes: int) -> float:
        """When the last of the bytes has left that may leave from ``start`` on; takes tokens."""
        self._fill(start)
        need = nbytes - self._tokens
        self._tokens = max(self._tokens - nbytes, 0.0)
        now = start
        while need > _ROUNDING:
            rate, until = self.course.at(now).rate, self.course.change(now)
            if rate and rate * (until - now) >= need:
                now += need / rate
                break
            if math.isinf(until):
                raise ValueError("a link that carries nothing for good")
            need -= rate * (until - now)
            now = until
        self._filled = now
        return now

    def _fill(self, until: float) -> None:
        """Count the tokens of the time up to ``until``."""
        now = self._filled
        while now < until:
            there, end = self.course.at(now), min(self.course.change(now), until)
            self._tokens = min(there.burst, self._tokens + there.rate * (end - now))
            now = end
        there = self.course.at(until)
        self._tokens = there.burst if math.isinf(there.rate) else min(self._tokens, there.burst)
        self._filled = max(self._filled, until)

    def _draw(self) -> float:
        """The next number in [0, 1): SplitMix64 (Steele, Lea and Flood, 2014) from the key."""
        self._drawn += 1
        state = (self.key + self._drawn * _GOLDEN) & _MASK
        for shift, factor in _MIXES:
            state = ((state ^ (state >> shift)) * factor) & _MASK
        return ((state ^ (state >> 31)) >> 11) * 2.0**-53
