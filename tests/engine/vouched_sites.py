"""Sites whose links ask for more than a key: exchanges that a test decides about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import PrivateAttr

from hansa.engine.links.keys import Key
from hansa.engine.links.ticket import Peer
from hansa.engine.links.vouching import ChannelKind, Meeting, VouchError, Vouching

KEYS = [Key.generate(f"site-{k}") for k in range(3)]


class Toy:
    """Each end says one word, and takes the other's if ``takes`` does; without one, for ever."""

    def __init__(self, word: bytes, takes: Callable[[bytes], bool]) -> None:
        self.over = False
        self._word, self._takes = word, takes

    def begin(self) -> list[bytes]:
        return [self._word] if self._word else []

    def heard(self, word: bytes) -> list[bytes]:
        if not self._takes(word):
            raise VouchError("is not liked here", "not liked")
        self.over = bool(self._word)
        return []


class ToyVouching:
    """What a site says and takes, with all meetings that it had."""

    mark = ""

    def __init__(self, word: bytes = b"yes", **limits: Any) -> None:
        self.word = word
        self.takes: Callable[[bytes], bool] = lambda word: True
        self.longest, self.seconds, self.every = 64, 20.0, 0.0
        vars(self).update(limits)
        self.meetings: list[Meeting] = []

    def between(self, meeting: Meeting) -> Toy:
        self.meetings.append(meeting)
        return Toy(self.word, lambda word: self.takes(word))


class ToyChannel(ChannelKind):
    """The channel of one site."""

    _vouching: ToyVouching = PrivateAttr()

    @classmethod
    def of(cls, vouching: ToyVouching) -> ToyChannel:
        made = cls()
        made._vouching = vouching
        return made

    def vouching(self, run: str, config: Mapping[str, Any], member: Mapping[str, Any]) -> Vouching:
        return self._vouching


def ticket_of(site: int, vouching: ToyVouching | None, sites: int = 2) -> dict[str, Any]:
    """What a :class:`LinkSite` needs to have keys, and to vouch if it shall."""
    peers = tuple(Peer(k, key=KEYS[k].fingerprint) for k in range(sites) if k != site)
    channel = None if vouching is None else ToyChannel.of(vouching)
    return {"sites": sites, "secret": b"", "key": KEYS[site], "peers": peers, "channel": channel}
