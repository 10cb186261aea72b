"""Connections that come and go over one shaped link: its rate holds for what all of them write."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from hansa.engine.links.conditions import Conditions, Course
from hansa.engine.links.link_filter import Filter
from hansa.engine.links.shaped import _ABOUT, Shaped

TINY = 1e-6


class Timer:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Virtual:
    """A clock that goes where the test sends it, and calls who is due on the way."""

    def __init__(self) -> None:
        self.time, self._due = 0.0, list[tuple[float, int, Timer]]()
        self._order = count()

    def now(self) -> float:
        return self.time

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(call)
        heapq.heappush(self._due, (self.time + max(seconds, 0.0), next(self._order), timer))
        return timer

    def go(self, until: float) -> None:
        while self._due and self._due[0][0] <= until:
            self.time, _, timer = heapq.heappop(self._due)
            if timer.call is not None:
                timer.call()
        self.time = until


class Line:
    """A connection: what it holds back, and what it has written, in order."""

    def __init__(self, link: Filter, clock: Virtual, wire: list[tuple[float, int]]) -> None:
        self.put, self.written = list[int](), list[int]()

        def write(frame: Any, what: str) -> None:
            number, nbytes = frame
            self.written.append(number)
            wire.append((clock.now(), nbytes + _ABOUT))

        self.shaped = Shaped(link, clock, write, lambda: None)


deeds = st.one_of(
    st.tuples(st.just("open"), st.just(0)),
    st.tuples(st.just("close"), st.integers(0, 3)),
    st.tuples(st.just("put"), st.integers(1, 30_000)),
    st.tuples(st.just("wait"), st.integers(0, 400)),
)


PUT, OPEN, CLOSE = ("put", 2000), ("open", 0), ("close", 1)


@settings(max_examples=150)
@example([(PUT, 0), (PUT, 0), (OPEN, 0), (CLOSE, 0), (PUT, 0), (PUT, 0)], 1e4, 1.0, 0.0)
@given(
    st.lists(st.tuples(deeds, st.integers(0, 3)), max_size=60),
    st.sampled_from([1e4, 1e5, 1e6]),
    st.floats(1, 5e3),
    st.sampled_from([0.0, 0.05]),
)
def test_the_rate_holds_whatever_connections_do(
    done: list[tuple[tuple[str, int], int]], rate: float, burst: float, delay: float
) -> None:
    clock, wire = Virtual(), list[tuple[float, int]]()
    link = Filter(Course(conditions=(Conditions(delay=delay, rate=rate, burst=burst),)))
    lines, number = [Line(link, clock, wire)], count()
    for (what, figure), which in done:
        if what == "wait":
            clock.go(clock.time + figure / 1000)
        elif what == "open":
            lines.append(Line(link, clock, wire))
        elif what == "close" and lines:
            lines.pop(figure % len(lines)).shaped.clear()
        elif what == "put" and lines:
            line = lines[which % len(lines)]
            if line.shaped.room:
                line.put.append(next(number))
                line.shaped.put((line.put[-1], figure), figure)
    clock.go(clock.time + 1e4)
    for line in lines:  # nothing is lost, and nothing overtakes
        assert line.written == line.put
    for first in range(len(wire)):
        total = 0
        for moment, nbytes in wire[first + 1 :]:
            total += nbytes
            assert total <= (burst + rate * (moment - wire[first][0])) * (1 + TINY) + TINY * rate
