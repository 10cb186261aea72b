"""What a peer sends that is no message, or too much of it: it is dropped, and costs little."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import RunError
from hansa.engine.exchange import post as post_module
from hansa.engine.exchange.deadline import Deadline
from hansa.engine.exchange.post import SitePost
from hansa.engine.exchange.wire import UNASKED, When, checksum

from .post_sites import LONG, PAYLOAD, Patience, Sites, header


def test_one_peer_fills_no_more_than_its_room_here() -> None:
    sites = Sites((0, 1), kept=10 * (len(PAYLOAD) + 512))
    first, second = sites.posts
    for turn in range(20):
        first.send(header(0, 1, 0, turn, kind="other", turned=True), PAYLOAD)
    second.send(header(1, 0), PAYLOAD)
    second.gather(When(0, "", 0), set())
    while second._take():
        pass
    ((why, times),) = second.dropped.items()
    assert "more than 5280 bytes" in why
    assert times == 10
    for turn in range(10):
        assert len(second.gather(When(0, "other", turn), {(0, 1)})) == 1


FORGED: list[tuple[int, list[bytes], str]] = [
    (0, [b""], "not headers"),
    (0, [], "not headers"),
    (0, [b"", PAYLOAD], "not headers"),
    (0, [header(0, 2).pack()], "not headers"),
    (0, [header(0, 2).pack(), PAYLOAD, b""], "not headers"),
    (0, [header(0, 2).pack()[:-1], PAYLOAD], "not headers"),
    (0, [b"\xff" * 64, PAYLOAD], "not a hansa frame"),
    (0, [header(0, 2).pack()[:-1] + b"?", PAYLOAD], "does not match its checksum"),
    (0, [header(0, 2).pack(), PAYLOAD[:-1]], "announced were 16"),
    (0, [header(0, 2).pack(), PAYLOAD[:-1] + b"?"], "does not match its checksum"),
    (0, [header(0, 2, size=1 << 40).pack(), PAYLOAD], "over the limit"),
    (0, [header(0, 2).pack() + header(0, 3, size=15).pack(), PAYLOAD], "different payloads"),
    (0, [header(0, 2).pack() + header(0, 3, 1).pack(), PAYLOAD], "different exchanges"),
    (0, [header(99, 2).pack(), PAYLOAD], "does not exist"),
    (0, [header(0, 99).pack(), PAYLOAD], "does not exist"),
    (0, [header(3, 2).pack(), PAYLOAD], "does not live where it came from"),
    (0, [header(0, 1).pack(), PAYLOAD], "does not live here"),
    (2, [header(0, 2).pack(), PAYLOAD], "does not live where it came from"),
]


@pytest.mark.parametrize(("site", "parts", "reason"), FORGED, ids=[f[2] for f in FORGED])
def test_forged_messages_are_counted_with_their_sender_and_dropped(
    site: int, parts: list[bytes], reason: str
) -> None:
    """Whoever a site says that it speaks for: that it is itself it has proven to the links.

    Before, who came first under a worker's name was taken for it.
    """
    post = Sites((0, 0, 1, 1, 2)).posts[1]
    post.deadlines[0] = Patience(lambda: bool(post.dropped))
    post.arrived(site, parts)
    with pytest.raises(RunError, match="in vain"):
        post.gather(When(0, "", 0), {(0, 2)})
    ((why, times),) = post.dropped.items()
    assert times == 1
    assert reason in why
    assert f"from site {site}" in why


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.binary(max_size=140), max_size=3), min_size=1, max_size=4))
def test_no_message_breaks_a_post(messages: list[list[bytes]]) -> None:
    sites = Sites()
    first, second = sites.posts
    for parts in messages:
        second.arrived(0, parts)
    first.send(header(0, 2), PAYLOAD)
    assert second.gather(When(0, "", 0), {(0, 2)})[0, 2][1] == PAYLOAD


def test_messages_without_a_payload_take_room_too() -> None:
    """Nothing bounded how many of them were kept, of whatever kinds their sender makes up."""
    sites = Sites((0, 1), kept=1 << 14)
    first, second = sites.posts
    empty = {"elements": 0, "size": 0, "checksum": checksum(b"")}
    for turn in range(200):
        first.send(header(0, 1, 0, turn, kind="made up", turned=True, **empty), b"")
    while second._take():
        pass
    assert sum(map(len, second._holes._kept.values())) <= 32
    ((why, times),) = second.dropped.items()
    assert "more than 16384 bytes waiting here" in why
    assert times >= 168


def test_messages_that_nobody_waits_for_hold_a_deadline_open_no_longer_than_words_do() -> None:
    """A peer can make as many as it likes: of later exchanges, or of kinds that there are not."""
    sites = Sites((0, 1, 2))
    first, _, third = sites.posts
    third.deadlines[0] = patience = Patience(lambda: not third._inbox)
    first.send(header(0, 2, 0, 1), PAYLOAD)
    patience.touched = 0

    class Used(Deadline):
        passed = True  # type: ignore[assignment]

    before = third._holes.lack

    def lack(when: When, expected: set[tuple[int, int]]) -> Any:
        third._enough = Used(0.0)
        return before(when, expected)

    third._holes.lack = lack  # type: ignore[method-assign]
    for turn in range(20):
        first.send(header(0, 2, 0, turn, kind="made up", turned=True), PAYLOAD)
    with pytest.raises(RunError, match=r"nodes? 0;"):
        third.gather(When(0, "", 0), {(0, 2)})
    assert patience.touched == 1  # when the waiting began
    patience.enough = lambda: False
    first.send(header(0, 2, 0, 2), PAYLOAD)  # and what is waited for always does
    third.gather(When(0, "", 2), {(0, 2)})
    assert patience.touched == 3


def test_messages_of_no_exchange_are_paid_for_one_by_one_and_take_room() -> None:
    """One that was received paid for all that waited, so there was no end of them."""
    sites = Sites((0, 1), credit=1000)
    first, second = sites.posts
    second.unasked = True
    loose = header(0, 1, 0, UNASKED, kind="loose", turned=True)
    for _ in range(300):
        first.send(loose, PAYLOAD)
    for _ in range(100):
        while second._take():
            pass
        assert len(second._unasked) <= 1000 // 80 + 1
        assert second.receive(0) == [(loose, PAYLOAD)]
    second = SitePost(1, (0, 1), LONG, lambda: None, kept=10_000)
    second.unasked = True
    second.connect(sites.wires.ends[1])
    for _ in range(300):
        second.arrived(0, [loose.pack(), PAYLOAD])
        second._take()
        second._pay()  # as this one waits for a peer that takes nothing
    assert len(second._unasked) <= 10_000 // 512
    assert list(second.dropped) == ["from site 0: too many messages of no exchange"]


def test_no_more_is_remembered_of_a_silent_peer_than_the_latest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(post_module, "_MISSED", 10)
    first, second = Sites((0, 1)).posts
    second.given_up.add(0)
    for round in range(100):
        assert second.gather(When(round, "", 0), {(0, 1)}, whole=False) == {}
    assert len(second._missed) == 10
    first.send(header(0, 1, 99), PAYLOAD)  # too late, but there it is again
    while second._take():
        pass
    assert second.given_up == set()
