"""The messages of a site: each is taken once, in time, from where it should come, or not at all."""

import random
import struct
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import RunError, WireError
from hansa.codec import Dense
from hansa.engine import Job, Send, WallClock
from hansa.engine.exchange.asked import Exchange
from hansa.engine.exchange.post import SKIPPED, SitePost
from hansa.engine.exchange.wire import UNASKED, When, checksum
from hansa.topology import Graph

from .post_sites import LONG, PAYLOAD, Patience, Sites, header


def test_messages_arrive_with_their_headers(pair: Sites) -> None:
    first, second = pair.posts
    first.send(header(0, 2), PAYLOAD)
    first.send(header(1, 2), memoryview(PAYLOAD), header(1, 3))
    second.send(header(3, 0), PAYLOAD)
    got = second.gather(When(0, "", 0), {(0, 2), (1, 2), (1, 3)})
    assert got == {(s, r): (header(s, r), PAYLOAD) for s, r in ((0, 2), (1, 2), (1, 3))}
    assert first.gather(When(0, "", 0), {(3, 0)})[3, 0] == (header(3, 0), PAYLOAD)
    assert first.dropped == second.dropped == {}


def test_a_payload_crosses_once_to_a_site_and_is_not_copied_there(pair: Sites) -> None:
    """However many hear it there."""
    first, second = pair.posts
    first.send(header(0, 2), PAYLOAD, header(0, 3))
    assert pair.wires.log == [(0, 1, len(PAYLOAD))]
    got = second.gather(When(0, "", 0), {(0, 2), (0, 3)})
    one, other = (np.frombuffer(got[0, r][1], dtype=np.uint8) for r in (2, 3))
    assert np.shares_memory(one, other)


def test_a_peer_may_be_ahead(pair: Sites) -> None:
    """Messages of the next round and of later phases wait until they are asked for."""
    first, second = pair.posts
    order = [(0, 1), (1, 0), (1, 1), (0, 0)]
    for round, phase in order:
        first.send(header(0, 2, round, phase, arrival=round + phase / 2), PAYLOAD)
    for round, phase in sorted(order):
        found, _ = second.gather(When(round, "", phase), {(0, 2)})[0, 2]
        assert (found.round, found.phase, found.arrival) == (round, phase, round + phase / 2)
    assert second.dropped == {}


def test_a_peer_that_is_rounds_ahead_is_not_taken_before_its_time() -> None:
    """Nor given leave to send more: all that it says of rounds far ahead stays with it.

    Before, 200 messages of rounds from 1000 on were kept. None of them is taken here, and no
    more than the peer may be ahead has come.
    """
    sites = Sites(credit=1000)
    first, second = sites.posts
    for round in range(1000, 1200):
        first.send(header(0, 2, round), PAYLOAD)
    first.send(header(1, 2), PAYLOAD)  # behind the others, as its sender keeps the order
    second.deadlines[0] = Patience(lambda: not second._inbox)
    with pytest.raises(RunError, match=r"nodes? 0"):
        second.gather(When(0, "", 0), {(0, 2)})
    assert not second._holes._kept
    assert sum(map(len, second._ahead.values())) <= 1000 // 80 + 1
    assert sites.wires.ends[0].queued(1) > 180 * 80
    second.deadlines[0] = Patience(lambda: False)
    for round in (999, 1000, 1001):  # when their time has come they are there
        got = second.gather(When(round, "", 0), {(0, 2)} if round > 999 else set())
        assert len(got) == (round > 999)


def test_exchanges_that_not_all_take_part_in_are_told_apart_by_kind_and_turn(pair: Sites) -> None:
    """Whoever takes no part in them need not know how many there were."""
    first, second = pair.posts
    turns = [("train", 2), ("more", 0), ("train", 0), ("model", 0)]
    for kind, turn in turns:
        first.send(header(0, 2, 3, turn, kind=kind, turned=True, arrival=turn), PAYLOAD)
    first.send(header(0, 2, 3, 1), PAYLOAD)
    first.send(header(0, 2, 4, 0), PAYLOAD)
    for kind, turn in reversed(turns):
        found, _ = second.gather(When(3, kind, turn), {(0, 2)})[0, 2]
        assert (found.kind, found.phase, found.arrival) == (kind, turn, turn)
    assert second.gather(When(3, "", 1), {(0, 2)})[0, 2][0].turned is False
    first.send(header(0, 2, 3, 2, kind="train", turned=True), PAYLOAD)
    second.gather(When(4, "", 0), {(0, 2)})
    first.send(header(0, 2, 3, 7, kind="train", turned=True), PAYLOAD)
    first.send(header(0, 2, 5, 0), PAYLOAD)
    second.gather(When(5, "", 0), {(0, 2)})
    assert second.dropped == {"late or repeated": 2}


def test_repeated_and_late_messages_are_counted_and_dropped(pair: Sites) -> None:
    first, second = pair.posts
    other = struct.pack("<4f", 9, 9, 9, 9)
    first.send(header(0, 2), PAYLOAD)
    first.send(header(0, 2, checksum=checksum(other)), other)  # too late to replace the first
    first.send(header(1, 2), PAYLOAD)
    assert second.gather(When(0, "", 0), {(0, 2), (1, 2)})[0, 2][1] == PAYLOAD
    first.send(header(0, 2), PAYLOAD)
    first.send(header(0, 2, 1), PAYLOAD)
    second.gather(When(1, "", 0), {(0, 2)})
    assert second.dropped == {"repeated": 1, "late or repeated": 1}


def test_nothing_expected_is_nothing_waited_for(pair: Sites) -> None:
    assert pair.posts[0].gather(When(0, "", 0), set()) == {}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([120, 500, 1 << 20]),
    st.sampled_from([100, 1 << 20]),
)
def test_whatever_the_order_each_message_is_taken_once(
    seed: int, rounds: int, phases: int, credit: int, outgoing: int
) -> None:
    """Three sites, all to all, through links that deliver when a random choice says so.

    With little credit and little room. What is sent again changes nothing.
    """
    owner = (0, 0, 1, 2)
    sites = Sites(owner, credit=credit, outgoing=outgoing)
    sites.wires.held = True
    draw = random.Random(seed)
    keys = {
        site: {(s, r) for s in range(4) for r in range(4) if owner[r] == site != owner[s]}
        for site in range(3)
    }
    got: dict[tuple[int, int, int], Any] = {}
    over = threading.Event()

    def one(post: SitePost) -> None:
        for round in range(rounds):
            for phase in range(phases):
                for sender, receiver in sorted(set().union(*keys.values())):
                    if owner[sender] == post.index:
                        which = header(sender, receiver, round, phase)
                        post.send(which, PAYLOAD)
                        if (sender + receiver + round) % 3 == 0:
                            post.send(which, PAYLOAD)
                found = post.gather(When(round, "", phase), keys[post.index])
                got[post.index, round, phase] = {
                    k: (h.round, h.phase) for k, (h, _) in found.items()
                }

    threads = [threading.Thread(target=one, args=(post,)) for post in sites.posts]
    for thread in threads:
        thread.start()

    def deliver() -> None:
        while not over.is_set():
            if not sites.wires.deliver(draw.choice):
                over.wait(0.0005)

    network = threading.Thread(target=deliver)
    network.start()
    for thread in threads:
        thread.join(LONG)
    over.set()
    network.join()
    assert got == {
        (site, round, phase): dict.fromkeys(keys[site], (round, phase))
        for site in range(3)
        for round in range(rounds)
        for phase in range(phases)
    }
    assert {why for post in sites.posts for why in post.dropped} <= {"repeated", "late or repeated"}


def test_messages_of_no_exchange_are_taken_where_the_run_has_such_and_count_until_received() -> (
    None
):
    """Elsewhere they are dropped, and put off no deadline."""
    sites = Sites((0, 1), credit=1000)
    first, second = sites.posts
    loose = header(0, 1, 0, UNASKED, kind="loose", turned=True)
    first.send(loose, PAYLOAD)
    assert second.receive(0) == []
    assert second.dropped == {"from site 0: a message of no exchange": 1}
    second.unasked = True
    for _ in range(100):
        first.send(loose, PAYLOAD)
    while second._take():
        pass
    assert sites.wires.ends[0].queued(1) > 80 * 80  # no more than it may be ahead has come
    for _ in range(100):
        assert second.receive(0) == [(loose, PAYLOAD)]
    assert second.receive(0) == []


def test_a_frame_that_says_that_no_more_comes_is_no_message(pair: Sites) -> None:
    """No algorithm can send one."""
    with pytest.raises(ValueError, match="not at most 16 ASCII"):
        Send(np.zeros((1, 1)), Graph.from_edges(1, [], []), kind=SKIPPED)  # type: ignore[arg-type]
    pair.posts[0]._skip(1, header(0, 2))
    assert pair.posts[1].receive(0) == []
    assert pair.posts[1].dropped == {}
    assert When(0, SKIPPED, UNASKED).number == UNASKED


def test_a_message_of_another_kind_or_length_is_an_error_that_names_the_node(
    make_job: Callable[..., Job], pair: Sites
) -> None:
    graph = Graph.from_edges(4, [0], [2])
    block = make_job({"nodes": 4, "topology": "ring"}).block(np.array([2, 3]))
    part = block.rows[:, :4].clone()
    exchange = Exchange(WallClock(), pair.posts[1])
    first = pair.posts[0]
    first.send(header(0, 2, 0, kind="other"), PAYLOAD)
    with pytest.raises(WireError, match="node 0 sent 4 numbers of kind 'other' where 4 of kind"):
        exchange(block, Send(part, graph), 0, 0)
    first.send(header(0, 2, 1, elements=5), PAYLOAD)
    with pytest.raises(WireError, match="node 0 sent 5 numbers"):
        exchange(block, Send(part, graph), 1, 0)
    first.send(header(0, 2, 2), PAYLOAD)
    with pytest.raises(WireError, match="payload of 16 bytes for 4 elements"):
        exchange(block, Send(part, graph, Dense(dtype="float16")), 2, 0)
    first.send(header(0, 2, 3), PAYLOAD)
    inbox = exchange(block, Send(part, graph), 3, 0)
    assert inbox.messages(0)[1].tolist() == [[0, 1, 2, 3]]
    assert inbox.messages(1)[1].shape == (0, 4)
