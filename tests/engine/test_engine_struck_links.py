"""Live links that are shaped, damaged and broken: every message comes once, in order and whole."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hansa.base.streams import Streams
from hansa.engine.links.link_filter import Filter
from hansa.engine.links.links import Links
from hansa.engine.links.shaping import Shaping
from hansa.engine.links.ticket import Peer, Ticket
from hansa.engine.runtimes.strikes import Strike, Strikes

PATIENCE = 120.0  # seconds after which a test gives up: nothing below takes more than some


class End:
    """One end of a link, and what has come to it."""

    def __init__(self, site: int, toward: Callable[[int], Filter | None] | None) -> None:
        self.came: list[bytes] = []
        self.more = threading.Condition()
        peers = tuple(Peer(other) for other in (0, 1) if other != site)
        ticket = Ticket("struck", site, (0, 1), peers, secret=b"s" * 32)
        self.links = Links(ticket, None, self._take, lambda: None, toward)
        self.address = self.links.start()

    def _take(self, site: int, kind: int, parts: list[Any]) -> None:
        with self.more:
            self.came.append(b"".join(parts))
            self.more.notify_all()
        self.links.grant(site, sum(map(len, parts)))

    def wait(self, count: int) -> None:
        with self.more:
            assert self.more.wait_for(lambda: len(self.came) >= count, PATIENCE), len(self.came)


@contextmanager
def two(*toward: Callable[[int], Filter | None] | None) -> Iterator[tuple[End, End]]:
    """Two sites that know each other, with filters of what each of them sends."""
    ends = [End(site, filters) for site, filters in enumerate(toward)]
    for site, end in enumerate(ends):
        end.links.meet([Peer(1 - site, ends[1 - site].address)])
    try:
        yield ends[0], ends[1]
    finally:
        for end in ends:
            end.links.close(0.0)


def messages(count: int, size: int = 3000) -> list[bytes]:
    return [bytes([number % 251]) * (size + number) for number in range(count)]


@pytest.mark.parametrize(
    "shape",
    [
        {"delay": 0.02, "jitter": 0.02},
        {"duplicate": 0.5},
        {"loss": 0.3, "resend": 0.01},
        {"corrupt": 0.03},
        {"delay": 0.01, "rate": 1e6, "duplicate": 0.3, "corrupt": 0.02, "cut": [[0.1, 0.6]]},
    ],
    ids=lambda shape: "-".join(shape),
)
def test_shaped_links_lose_and_repeat_nothing(shape: dict[str, Any]) -> None:
    shaping = Shaping.model_validate(shape)
    toward = [shaping.between(Streams(3), site, (0, 1)) for site in (0, 1)]
    there, back = messages(60), messages(40, 500)
    with two(*toward) as (one, other):
        for body in there:
            one.links.send(1, 0, [body])
        for body in back:
            other.links.send(0, 0, [body])
        other.wait(len(there))
        one.wait(len(back))
        assert other.came == there
        assert one.came == back
        assert one.links.flush(PATIENCE)
        sent = one.links.overhead.of(1).sent
        assert sent.data == sum(map(len, there))  # what went out twice is overhead


def test_a_rate_is_never_exceeded() -> None:
    """However busy the machine, bytes do not come faster than the bucket lets them out."""
    rate, burst = 400_000.0, 20_000.0
    shaping = Shaping.model_validate({"rate": rate, "burst": burst})
    with two(shaping.between(Streams(3), 0, (0, 1)), None) as (one, other):
        one.links.send(1, 0, [b"first"])
        other.wait(1)
        began = time.monotonic()
        for body in messages(20, 20_000):
            one.links.send(1, 0, [body])
        other.wait(21)
        assert time.monotonic() - began >= (20 * 20_000 - burst) / rate


@pytest.mark.parametrize("what", ["drop", "delay", "duplicate", "corrupt", "partition"])
def test_a_site_whose_links_are_struck_is_heard_in_the_end(what: Any) -> None:
    strikes = Strikes([Strike(0, 1, "sending", what, seconds=0.3)], 0)
    there, back = messages(30, 100_000), messages(30, 100_000)
    with two(strikes.over(None), None) as (one, other):
        strikes.links = one.links
        for number in range(len(there)):
            strikes.at("sending", number // 10)
            one.links.send(1, 0, [there[number]])
            other.links.send(0, 0, [back[number]])
            if number == 9:
                other.wait(1)
        other.wait(len(there))
        one.wait(len(back))
        assert other.came == there
        assert one.came == back
