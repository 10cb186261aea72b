"""Messages that belong to no exchange, until they are received: bounded, paid for one by one."""

from __future__ import annotations

from collections import deque

from hansa.engine.exchange.wire import Header

_COST = 512
"""Bytes that a message takes for each who hears it, beside its own."""
Letters = list[tuple[Header, bytes]]


class Loose:
    """Messages of no exchange, in the order in which they came.

    Each counts against what its sender may send until it is received.

    Args:
        room: bytes that one site's messages may take here.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._waiting: deque[tuple[int, int, Letters]] = deque()
        self._taken: dict[int, int] = {}
        self._owed: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def room(self, site: int, size: int, hearers: int) -> bool:
        """Whether there is room for another message of a site."""
        return self._taken.get(site, 0) + size + hearers * _COST <= self._room

    def put(self, site: int, size: int, came: Letters) -> None:
        """Keep a message of so many bytes."""
        self._waiting.append((site, size, came))
        self._taken[site] = self._taken.get(site, 0) + size + len(came) * _COST
        self._owed[site] = self._owed.get(site, 0) + size

    def take(self) -> tuple[int, int, Letters]:
        """The next: whose, how many bytes its sender may send for it now, and what it is."""
        site, size, came = self._waiting.popleft()
        self._taken[site] -= size + len(came) * _COST
        owed = min(size, self._owed.get(site, 0))
        self._owed[site] = self._owed.get(site, 0) - owed
        return site, owed, came

    def pay(self) -> dict[int, int]:
        """Bytes that each site may send as if all that is here had been received."""
        owed, self._owed = self._owed, {}
        return owed
