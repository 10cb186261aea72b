"""Whatever connections do, every message arrives once, in order and whole."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import WireError
from hansa.engine.links.assembly import CONTROL, DATA, HEAD, Assembly
from hansa.engine.links.limits import LinkSettings
from hansa.engine.links.session import Outgoing, Session

from .virtual_links import VirtualWorld

SMALL = LinkSettings(ahead=1 << 12, chunk=1 << 10, message=1 << 20)
MESSAGES = st.lists(st.binary(max_size=3000), min_size=1, max_size=4).filter(any)


def stream(messages: list[tuple[int, list[bytes]]]) -> bytes:
    """All of them as one stream, by the definition."""
    return b"".join(bytes(b) for k, parts in messages for b in Outgoing(k, parts).buffers)


@given(
    st.lists(st.tuples(st.sampled_from([DATA, CONTROL]), MESSAGES), max_size=6),
    st.lists(st.integers(1, 4000), min_size=1, max_size=12),
)
def test_messages_come_out_of_any_pieces(
    messages: list[tuple[int, list[bytes]]], sizes: list[int]
) -> None:
    assembly, whole, got, at = Assembly(1 << 20), stream(messages), [], 0
    turn = 0
    while at < len(whole):
        size = sizes[turn % len(sizes)]
        got += assembly.add(memoryview(whole[at : at + size]))
        at, turn = at + size, turn + 1
    assert [(m.kind, [bytes(p) for p in m.parts]) for m in got] == messages
    assert [m.size for m in got] == [sum(map(len, parts)) for _, parts in messages]
    assert assembly.received == len(whole)
    assert assembly.heads == len(whole) - sum(m.size for m in got)
    assert not assembly.have


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 1), MESSAGES),
        st.tuples(st.just("move"), st.integers(0, 3), st.integers(0, 1), st.integers(1, 3000)),
        st.tuples(st.just("run"), st.integers(1, 8), st.sampled_from([50, 700, 5000])),
        st.tuples(st.just("run"), st.integers(1, 8), st.sampled_from([50, 700, 5000])),
        st.tuples(st.just("cut"), st.integers(0, 3), st.sampled_from([(0,), (1,), (0, 1)])),
        st.tuples(st.just("dial"), st.integers(0, 1)),
        st.tuples(st.just("grant"), st.integers(0, 1), st.booleans()),
        st.tuples(st.just("wait"), st.floats(0, 5)),
    ),
    max_size=40,
)


def play(world: VirtualWorld, steps: list[tuple[Any, ...]], sent: list[list[bytes]]) -> None:
    """Two sites that met, and what happens to them."""
    world.dial(0)
    for what, *more in steps:
        if what == "send":
            world.sites[more[0]].send(*more[1])
            sent[more[0]].append(b"|".join(more[1]))
        elif what == "move" and more[0] < len(world.pipes):
            world.pipes[-1 - more[0]][more[1]].move(more[2])
        elif what == "run":
            for _ in range(more[0]):
                for ends in world.pipes:
                    for end in ends:
                        end.move(more[1])
        elif what == "cut" and more[0] < len(world.pipes):
            ends = world.pipes[-1 - more[0]]
            for end in ends:
                end.lose()  # under way
            for which in more[1]:
                ends[which].broken()
        elif what == "dial":
            world.dial(more[0])
        elif what == "grant":
            site = world.sites[more[0]]
            if more[1] and not site.granting:
                site.pair.session.grant(1 << 30)
            site.granting = more[1]
        elif what == "wait":
            world.time += more[0]
        for site in world.sites:
            site.pair.acknowledge(soon=True)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_every_message_arrives_once_in_order_whatever_breaks(steps: list[tuple[Any, ...]]) -> None:
    world, sent = VirtualWorld(SMALL), [[], []]
    play(world, steps, sent)
    for site in world.sites:
        assert site.got == sent[1 - site.number][: len(site.got)]
        if not site.granting:
            site.pair.session.grant(1 << 30)
    world.heal()
    assert [world.sites[1].got, world.sites[0].got] == sent
    for site in world.sites:
        assert site.pair.session.unfinished == 0
        assert site.pair.session.settled


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(0, 1), STEPS)
def test_a_site_that_is_started_anew_hears_no_old_news_twice(
    before: list[tuple[Any, ...]], who: int, after: list[tuple[Any, ...]]
) -> None:
    """What was sent before is dropped, at most, and what is sent afterwards arrives."""
    world, sent = VirtualWorld(SMALL), [[], []]
    play(world, before, sent)
    known = list(world.sites[who].got)
    world.restart(who)
    play(world, after, sent)
    for site in world.sites:
        site.granting = True
        site.pair.session.grant(1 << 30)
    world.heal()
    for site in world.sites:
        site.send(b"the last")
    world.heal()
    for site, said in ((world.sites[who], sent[1 - who]), (world.sites[1 - who], sent[who])):
        *rest, last = site.got
        assert last == b"the last"
        places = iter(enumerate(said))
        assert all(any(one == other for _, other in places) for one in rest)  # in order, once
    assert known == sent[1 - who][: len(known)]


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_bytes_on_the_wire_are_data_and_overhead(steps: list[tuple[Any, ...]]) -> None:
    """Each cause is counted by itself; what no cause names are the channel's lengths."""
    world, sent = VirtualWorld(SMALL), [[], []]
    play(world, steps, sent)
    for site in world.sites:
        site.pair.session.grant(1 << 30)
    world.heal()
    for site in world.sites:
        lines = [ends[site.number].receiver for ends in world.pipes]
        payload = sum(len(text.replace(b"|", b"")) for text in sent[site.number])
        assert sum(line.traffic.sent.data for line in lines) >= payload - sum(
            text.count(b"|") for text in sent[site.number]
        )
        for line in lines:
            causes = line.traffic.sent.by_cause()
            assert line.traffic.sent.wire == line.traffic.sent.data + sum(causes.values())
            assert causes["channel"] >= 0
            assert causes["channel"] % 4 == 0  # a length before each frame


def test_a_message_longer_than_what_may_come_is_refused() -> None:
    assembly = Assembly(100)
    with pytest.raises(WireError, match="200 bytes; 100 may come"):
        assembly.add(memoryview(stream([(DATA, [bytes(200)])])))


def test_a_message_without_a_byte_is_refused_at_both_ends() -> None:
    """It would cost its sender no credit, and its receiver memory."""
    with pytest.raises(ValueError, match="without a byte"):
        Outgoing(DATA, [b"", b""])
    with pytest.raises(WireError, match="without a byte"):
        Assembly(100).add(memoryview(HEAD.pack(DATA, 2) + bytes(16)))


@pytest.mark.parametrize("head", [(7, 1), (0, 0), (0, 5000)])
def test_what_is_no_message_is_refused(head: tuple[int, int]) -> None:
    with pytest.raises(WireError, match="a message of kind"):
        Assembly(100).add(memoryview(HEAD.pack(*head)))


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 400)), max_size=20))
def test_what_comes_twice_or_overlaps_is_taken_once(chunks: list[tuple[int, int]]) -> None:
    session = Session(1 << 12, 1 << 10, 1 << 20)
    whole = stream([(DATA, [bytes(range(k, k + 30))]) for k in range(8)])
    got = []
    for back, size in [*chunks, (0, len(whole))]:
        start = max(session.received - back, 0)
        before = session.received
        got += session.take(start, memoryview(whole[start : start + size]))
        assert session.received == max(before, min(start + size, len(whole)))
    assert [bytes(m.parts[0]) for m in got] == [bytes(range(k, k + 30)) for k in range(8)]


def test_more_than_was_allowed_is_refused() -> None:
    session = Session(1 << 12, 1 << 10, 1 << 20)
    with pytest.raises(WireError, match="more than it was allowed"):
        session.take(0, memoryview(bytes(5000)))
    with pytest.raises(WireError, match="from byte 10 on"):
        session.take(10, memoryview(b"x"))
    with pytest.raises(WireError, match="has received"):
        session.heed(1, 0)


def test_a_message_that_was_announced_takes_no_memory() -> None:
    """What is kept is what has come; small pieces are joined."""
    assembly = Assembly(1 << 40)
    assembly.add(memoryview(HEAD.pack(DATA, 1) + (1 << 39).to_bytes(8, "little")))
    for _ in range(10_000):
        assembly.add(memoryview(b"x"))
    assert assembly.have == 10_011
    assert len(assembly._pieces) <= 2


def test_a_busy_site_is_sent_no_more_than_it_allows() -> None:
    """What is sent to a site that makes no use of it stays with its sender."""
    world = VirtualWorld(SMALL)
    world.sites[1].granting = False
    for _ in range(100):
        world.sites[0].send(bytes(1000))
    world.dial(0)
    for _ in range(200):
        for ends in world.pipes:
            for end in ends:
                end.move(1 << 20)
    came = sum(map(len, world.sites[1].got))
    assert came <= SMALL.ahead + 1000  # and what has begun is ended
    assert world.sites[0].pair.session.unfinished >= 100_000 - came
    world.sites[1].pair.session.grant(1 << 20)
    world.heal()
    assert len(world.sites[1].got) == 100
