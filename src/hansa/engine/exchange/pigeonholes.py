"""Messages that wait to be asked for, by exchange: each is taken once, and not for ever."""

from __future__ import annotations

from hansa.engine.exchange.wire import Buffer, Header, Key, When

AHEAD = 1
"""Rounds that a message may be ahead of what is asked for."""
_COST = 512
"""Bytes that a message takes beside its payload: one without a payload takes room too."""


class Pigeonholes:
    """Keeps messages of the exchange under way and of later ones, up to a round ahead.

    Args:
        room: bytes that one site's messages may take here.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self._kept: dict[When, dict[Key, tuple[Header, Buffer]]] = {}
        self._bytes: dict[When, dict[int, int]] = {}
        self._taken: dict[int, int] = {}
        self._missing: tuple[When, set[Key]] | None = None
        self._oldest = (-1, 0)  # round, and exchange of it that every block takes part in
        self._closed: set[When] = set()  # of this round, by kind and turn
        self._skipped: dict[int, set[int]] = {}  # sites that send no more of a round

    def early(self, when: When) -> bool:
        """Whether an exchange is of a round that is too far ahead."""
        return when.round > max(self._oldest[0], 0) + AHEAD

    def put(self, site: int, header: Header, payload: Buffer) -> str:
        """Keep a message of a site; returns why not, if it is of no use."""
        when, key = header.when, (header.sender, header.receiver)
        if self._late(when):
            return "late or repeated"
        if key in self._kept.get(when, ()):
            return "repeated"
        took, size = self._taken.get(site, 0), len(payload) + _COST
        if took + size > self.room:
            return f"site {site} has more than {self.room} bytes waiting here"
        self._kept.setdefault(when, {})[key] = (header, payload)
        self._taken[site] = took + size
        of = self._bytes.setdefault(when, {})
        of[site] = of.get(site, 0) + size
        if self._missing is not None and self._missing[0] == when:
            self._missing[1].discard(key)
        return ""

    def skip(self, site: int, round: int) -> None:
        """A site sends no more of a round."""
        if round >= self._oldest[0]:
            self._skipped.setdefault(round, set()).add(site)

    def skipped(self, site: int, round: int) -> bool:
        """Whether a site has said that it sends no more of a round."""
        return site in self._skipped.get(round, ())

    def begin(self, when: When) -> None:
        """What comes for exchanges before this one comes too late."""
        if when.round > self._oldest[0]:
            self._oldest = (when.round, 0)
            self._closed.clear()
            for over in [other for other in self._kept if other.round < when.round]:
                self._pop(over)
            for past in [round for round in self._skipped if round < when.round]:
                del self._skipped[past]
        if not when.kind:
            self._oldest = (when.round, when.number)

    def awaited(self, header: Header) -> bool:
        """Whether a message is one of those that were found missing."""
        when, lacking = self._missing or (None, ())
        return header.when == when and (header.sender, header.receiver) in lacking

    def lack(self, when: When, expected: set[Key]) -> set[Key]:
        """Which of the expected messages are not there: a set that shrinks as they come."""
        missing = expected - self._kept.get(when, {}).keys()
        self._missing = (when, missing)
        return missing

    def end(self, when: When) -> dict[Key, tuple[Header, Buffer]]:
        """Hand over all that came for an exchange, which is over."""
        self._missing = None
        if when.kind:
            self._closed.add(when)
        else:
            self._oldest = (when.round, when.number + 1)
        return self._pop(when)

    def _late(self, when: When) -> bool:
        """Whether an exchange is over."""
        if when.kind:
            return when.round < self._oldest[0] or when in self._closed
        return (when.round, when.number) < self._oldest

    def _pop(self, when: When) -> dict[Key, tuple[Header, Buffer]]:
        for site, nbytes in self._bytes.pop(when, {}).items():
            self._taken[site] -= nbytes
        return self._kept.pop(when, {})

    def clear(self) -> None:
        """Drop everything."""
        self._kept.clear()
        self._bytes.clear()
        self._taken.clear()
