"""Frames that wait for a shaped link: it gives them out whole, twice or broken, when it wants."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from hansa.engine.links.link_filter import Filter

_ABOUT = 24  # bytes that a channel adds to a frame
_AHEAD = 0.5  # seconds of frames that wait in a shaped link beside those that are under way
_MOST = 1 << 26  # bytes of them
_PIECE = 0.25  # seconds that a chunk takes at most
_LEAST_CHUNK = 1 << 10


class Clock(Protocol):
    """The time, and calls when it has come."""

    def now(self) -> float:
        """Seconds since the site's links began."""

    def later(self, seconds: float, call: Callable[[], None]) -> Any:
        """Have it called; what is returned has ``cancel``."""


class LoopClock:
    """The clock of an event loop, from now on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.begin()

    def begin(self) -> None:
        """Count from this moment."""
        self._began = time.monotonic()

    def now(self) -> float:
        return time.monotonic() - self._began

    def later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(seconds, call)


class Shaped:
    """A connection's frames on their way through a filter.

    Args:
        link: the filter. It outlives connections.
        clock: the site's.
        write: is given each frame when it is due, and ``whole``, ``duplicate`` or ``corrupt``.
        free: is called when there is room again.
    """

    def __init__(
        self,
        link: Filter,
        clock: Clock,
        write: Callable[[Any, str], None],
        free: Callable[[], None],
    ) -> None:
        self._link, self._clock, self._write, self._free = link, clock, write, free
        self._waiting: deque[tuple[float, str, Any, int]] = deque()
        self._held = 0
        self._timer: Any = None

    @property
    def room(self) -> bool:
        """Whether more frames may wait."""
        if not self._waiting:
            return True
        now = self._clock.now()
        ahead = _AHEAD + 2 * self._link.course.at(now).delay
        return self._held < _MOST and self._waiting[-1][0] - now < ahead

    @property
    def chunk(self) -> int:
        """Bytes of a chunk that are not too long under way."""
        rate = self._link.course.at(self._clock.now()).rate
        return max(int(min(rate * _PIECE, 1 << 20)), _LEAST_CHUNK)

    def put(self, frame: Any, nbytes: int) -> None:
        """Send a frame of so many bytes through the filter."""
        for at, what in self._link.offer(self._clock.now(), nbytes + _ABOUT):
            self._waiting.append((at, what, frame, nbytes))
            self._held += nbytes
            self._link.waiting += 1
        self._arm()

    def _arm(self) -> None:
        if self._timer is None and self._waiting:
            wait = max(self._waiting[0][0] - self._clock.now(), 0.0)
            self._timer = self._clock.later(wait, self._due)

    def _due(self) -> None:
        self._timer = None
        while self._waiting and self._waiting[0][0] <= self._clock.now():
            _, what, frame, nbytes = self._waiting.popleft()
            self._held -= nbytes
            self._link.waiting -= 1
            self._write(frame, what)
        self._arm()
        self._free()

    def clear(self) -> None:
        """The connection is no more: what waits never arrives."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._link.waiting -= len(self._waiting)
        self._waiting.clear()
        self._held = 0
        self._link.clear(self._clock.now())
