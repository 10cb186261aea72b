"""Links that ask for more than a key: nothing else is said before both ends have accepted."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hansa.engine.links.links import CONTROL, DATA

from .link_sites import LinkSite
from .vouched_sites import ToyVouching, ticket_of

QUICK = {"retry": 0.2, "handshake": 20.0}


@pytest.fixture
def make() -> Iterator[Callable[..., LinkSite]]:
    """Makes sites that are closed when the test is over."""
    made: list[LinkSite] = []

    def one(site: int, vouching: ToyVouching | None, sites: int = 2, **more: Any) -> LinkSite:
        settings = QUICK | more.pop("settings", {})
        made.append(LinkSite(site, settings=settings, **ticket_of(site, vouching, sites), **more))
        return made[-1]

    yield one
    for site in made:
        site.links.close(0.0)


def test_both_ends_vouch_before_anything_is_said(make: Callable[..., LinkSite]) -> None:
    one, two = ToyVouching(), ToyVouching()
    near, far = make(0, one), make(1, two)
    near.links.send(1, DATA, [b"model"])
    near.meet(far)
    far.until(lambda: far.got)
    assert far.got == [(0, DATA, [b"model"])]
    assert [m.site for m in one.meetings] == [1]
    assert [m.site for m in two.meetings] == [0]
    assert one.meetings[0].binding == two.meetings[0].binding != bytes(32)
    assert one.meetings[0].own == two.meetings[0].peer
    assert one.meetings[0].dials
    assert not two.meetings[0].dials
    for site in (near, far):
        for traffic in (site.links.overhead.sent, site.links.overhead.received):
            assert traffic.by_cause()["vouch"] == 1 + len(b"yes")
            assert sum(traffic.by_cause().values()) == traffic.wire - traffic.data


@pytest.mark.parametrize("who", [0, 1])
def test_who_is_refused_says_and_hears_nothing(make: Callable[..., LinkSite], who: int) -> None:
    ways = [ToyVouching(), ToyVouching()]
    ways[who].takes = lambda word: False
    sites = [make(0, ways[0]), make(1, ways[1])]
    sites[0].links.send(1, CONTROL, [b"secret"])
    sites[0].meet(sites[1])
    for site in sites:
        other = 1 - site.ticket.site
        site.until(lambda site=site, other=other: site.links.state(other).refused)
        reason = site.links.state(other).refused
        assert reason.endswith("liked" + " here" * (site.ticket.site == who))
        assert not site.connected(other)
        assert not site.got


def test_who_does_not_vouch_at_all_is_not_heard(make: Callable[..., LinkSite]) -> None:
    near, far = make(0, None), make(1, ToyVouching())
    near.links.send(1, DATA, [b"model"])
    near.meet(far)
    near.until(lambda: near.links.state(1).refused)
    far.until(lambda: far.links.state(0).refused)
    assert "asks for evidence" in near.links.state(1).refused
    assert "evidence" in far.links.state(0).refused
    assert not far.got
    assert not near.connected(1)


def test_who_says_no_word_is_waited_for_no_longer_than_said(make: Callable[..., LinkSite]) -> None:
    near, far = make(0, ToyVouching(word=b"")), make(1, ToyVouching(seconds=0.2))
    near.meet(far)
    lines: list[str] = []

    def told() -> bool:
        lines.extend(far.links.notices())
        return any("did not show its evidence in 0.2 s" in line for line in lines)

    far.until(told)
    assert not near.connected(1)


def test_evidence_is_asked_for_again_and_links_live_on(make: Callable[..., LinkSite]) -> None:
    one, two = ToyVouching(every=0.3), ToyVouching(every=0.3)
    near, far = make(0, one), make(1, two)
    near.meet(far)
    near.until(lambda: len(one.meetings) > 2 and len(two.meetings) > 2)
    assert near.connected(1)
    assert len({meeting.binding for meeting in one.meetings}) == 1  # the same session
    two.takes = lambda word: False
    far.links.attest()
    far.until(lambda: far.links.state(0).refused)
    assert not far.connected(0)


def test_who_asks_for_evidence_without_end_is_cut_off(make: Callable[..., LinkSite]) -> None:
    one, two = ToyVouching(), ToyVouching()
    near, far = make(0, one), make(1, two)
    near.meet(far)
    near.until(lambda: near.connected(1))

    def cut() -> bool:  # the link is made anew: there is another session
        for _ in range(40):
            near.links.attest()
            time.sleep(0.002)
        return len({meeting.binding for meeting in two.meetings}) > 1

    far.until(cut)
    assert len(two.meetings) < 200


def test_two_that_meet_through_a_relay_vouch_to_each_other(make: Callable[..., LinkSite]) -> None:
    ways = [ToyVouching() for _ in range(3)]
    relay = make(2, ways[2], sites=3, relays=(2,))
    ends = [make(k, ways[k], sites=3, listen="", relays=(2,)) for k in (0, 1)]
    for end, other in (ends, ends[::-1]):
        end.links.send(other.ticket.site, DATA, [b"model"])
        end.meet(relay, (other.ticket.site, ""))
    for end, other in (ends, ends[::-1]):
        end.until(lambda end=end: end.got)
        site = other.ticket.site
        assert {m.site for m in ways[end.ticket.site].meetings} == {site, 2}
        mine = {m.binding for m in ways[end.ticket.site].meetings if m.site == site}
        theirs = {m.binding for m in ways[site].meetings if m.site == end.ticket.site}
        assert mine == theirs
        assert not mine & {m.binding for m in ways[2].meetings}
