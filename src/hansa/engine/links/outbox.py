"""Bytes on their way into a pipe: in order, and with whom to call when they are out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from hansa.engine.links.framing import Buffer

Then = Callable[[], None]


class Outbox:
    """What was put into a pipe and is not out of it.

    Attributes:
        waiting: buffers that nobody has taken yet, none of them empty.
    """

    def __init__(self) -> None:
        self.waiting: deque[memoryview] = deque()
        self._ends: deque[tuple[int, Then | None]] = deque()  # by bytes put in before
        self._put = self._written = self._marked = 0

    @property
    def partial(self) -> int:
        """Bytes that are out since the last ``then``."""
        return self._written - self._marked

    @property
    def pending(self) -> int:
        """Bytes that were put in and are not out."""
        return self._put - self._written

    def put(self, buffers: Sequence[Buffer], then: Then | None) -> None:
        """Put bytes behind those that wait; ``then`` is called when all of them are out."""
        for buffer in buffers:
            view = memoryview(buffer)
            if view.nbytes:
                self.waiting.append(view)
                self._put += view.nbytes
        self._ends.append((self._put, then))

    def take(self, nbytes: int) -> list[memoryview]:
        """The next bytes that wait, at most so many."""
        piece: list[memoryview] = []
        while self.waiting and nbytes:
            first = self.waiting.popleft()
            if first.nbytes > nbytes:
                self.waiting.appendleft(first[nbytes:])
                first = first[:nbytes]
            piece.append(first)
            nbytes -= first.nbytes
        return piece

    def out(self, nbytes: int) -> None:
        """So many bytes more of those that were taken are out."""
        self._written += nbytes
        while self._ends and self._ends[0][0] <= self._written:
            self._marked, then = self._ends.popleft()
            if then is not None:
                then()

    def clear(self) -> None:
        """Nothing of what waits goes out any more, and nobody is called for it."""
        self.waiting.clear()
        self._ends.clear()
