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
from hansa.engine.exchange import post as post_module
from hansa.engine.exchange.asked import Exchange
from hansa.engine.exchange.deadline import Deadline
from hansa.engine.exchange.post import SKIPPED, SitePost
from hansa.engine.exchange.wire import UNASKED, Header, When, checksum
from hansa.topology import Graph

from .wires import Wires

LONG = 300.0  # seconds; only a test that fails waits so long
PAYLOAD = np.arange(4, dtype=np.float32).tobytes()


def header(sender: int, receiver: int, round: int = 0, phase: int = 0, **changes: Any) -> Header:
    fields: dict[str, Any] = {
        "elements": 4,
        "size": len(PAYLOAD),
        "checksum": checksum(PAYLOAD),
        "arrival": 0.0,
        "kind": "model",
    }
    return Header(sender=sender, receiver=receiver, round=round, phase=phase, **(fields | changes))


class Patience(Deadline):
    """A deadline that passes when something has happened, whatever the clock says."""

    def __init__(self, enough: Callable[[], bool]) -> None:
        super().__init__(LONG)
        self.enough, self.touched = enough, 0

    def touch(self) -> None:
        self.touched = getattr(self, "touched", 0) + 1

    @property
    def passed(self) -> bool:
        return self.enough()


class Sites:
    """Some sites whose links are in memory: two with nodes 0, 1 and 2, 3 if nothing is said."""

    def __init__(self, owner: tuple[int, ...] = (0, 0, 1, 1), credit: int = 1 << 40, **more: Any):
        self.gone = False
        self.posts = [SitePost(k, owner, LONG, self.alive, **more) for k in sorted(set(owner))]
        self.wires = Wires(self.posts, credit)

    def alive(self) -> None:
        if self.gone:
            raise ConnectionAbortedError


def some(when: When, post: SitePost) -> bool:
    """Whether something of an exchange waits here."""
    return bool(post._holes._kept.get(when))


@pytest.fixture
def pair() -> Sites:
    return Sites()


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

    Finding 3: 200 messages of rounds from 1000 on were kept. None of them is taken here, and no
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


def test_silence_ends_at_the_deadline_and_names_the_nodes(pair: Sites) -> None:
    first, second = pair.posts
    second.deadlines[0] = Patience(lambda: some(When(0, "", 0), second))
    first.send(header(0, 2), PAYLOAD)
    with pytest.raises(RunError, match=r"waited 300 s .* nodes? 1;") as caught:
        second.gather(When(0, "", 0), {(0, 2), (1, 2), (1, 3)})
    assert (caught.value.node, caught.value.round, caught.value.phase) == (1, 1, "exchange")


@pytest.mark.parametrize("what", ["junk", "an old message"])
def test_what_is_of_no_use_does_not_put_off_a_deadline(what: str) -> None:
    """Nor that of another, which says nothing at all. Finding 2: it was held open for ever."""
    sites = Sites((0, 1, 2))
    first, _, post = sites.posts
    post.deadlines[1] = silent = Patience(lambda: sum(post.dropped.values()) > 20)
    first.send(header(0, 2), PAYLOAD)
    for _ in range(25):
        if what == "junk":
            post.arrived(0, [b"still here", b""])
        else:
            first.send(header(0, 2), PAYLOAD)
    with pytest.raises(RunError, match=r"node 1;"):
        post.gather(When(0, "", 0), {(0, 2), (1, 2)})
    assert silent.touched == 1  # when the waiting began


def test_a_silent_peer_is_given_up_and_waited_for_again_once_it_is_heard(pair: Sites) -> None:
    first, second = pair.posts
    second.deadlines[0] = patience = Patience(lambda: some(When(0, "", 0), second))
    first.send(header(0, 2), PAYLOAD)
    got = second.gather(When(0, "", 0), {(0, 2), (1, 2), (1, 3)}, whole=False)
    assert list(got) == [(0, 2)]
    assert second.given_up == {0}
    touched = patience.touched
    assert second.gather(When(1, "", 0), {(0, 2)}, whole=False) == {}  # at once
    assert patience.touched == touched
    first.send(header(1, 2), PAYLOAD)  # too late, but not yet heard
    second.gather(When(2, "", 0), set())
    while not second.dropped:
        second._take()
    assert second.dropped == {"late or repeated": 1}
    assert second.given_up == set()
    first.send(header(0, 2, 3), PAYLOAD)
    assert list(second.gather(When(3, "", 0), {(0, 2)}, whole=False)) == [(0, 2)]
    assert second.dropped == {"late or repeated": 1}


def test_who_is_held_up_by_a_silent_peer_is_waited_for() -> None:
    """Site 0 says nothing, 1 waits for it, and 2 for 1: it is 0 that is found silent."""
    sites = Sites((0, 1, 2))
    _, second, third = sites.posts
    enough = threading.Event()
    second.deadlines[0] = Patience(enough.is_set)
    second._said = Patience(lambda: True)
    put_off = threading.Event()

    class PutOff(Patience):
        """Passed, but for what it is told."""

        def touch(self) -> None:
            super().touch()
            if self.touched > 2:
                put_off.set()

    third.deadlines[1] = PutOff(put_off.is_set)
    found: list[str] = []

    def wait() -> None:
        try:
            second.gather(When(0, "", 0), {(0, 1)})
        except RunError as error:
            found.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    beat = threading.Event()

    def ping() -> None:  # links say now and then that they are there
        while not beat.wait(0.01):
            sites.wires.ends[2].states[1].heard += 1

    pings = threading.Thread(target=ping)
    pings.start()
    try:
        with pytest.raises(RunError, match=r"node 1;"):  # it was put off by words alone
            third.gather(When(0, "", 0), {(1, 2)})
    finally:
        enough.set()
        beat.set()
        thread.join()
        pings.join()
    assert "node 0;" in found[0]


def test_words_of_being_held_up_end_in_a_circle(pair: Sites) -> None:
    """They count the sites that they went over; who hears of more of them than there are sites
    waits no longer than for anybody."""
    _, second = pair.posts
    said: list[int] = []
    end = pair.wires.ends[1]
    end.tell = lambda **facts: said.append(facts["held"])  # type: ignore[method-assign]
    second._said = Patience(lambda: True)
    looks = iter(range(1, 100))

    def enough() -> bool:
        end.states[0].heard += 1
        end.states[0].facts["held"] = next(looks)
        return end.states[0].facts["held"] > 4

    second.deadlines[0] = patience = Patience(enough)
    second.rest = lambda *_: None  # type: ignore[method-assign]
    with pytest.raises(RunError, match="in vain"):
        second.gather(When(0, "", 0), {(0, 2)})
    assert said == [1, 2, 3]  # over one, over two, and that is a circle
    assert patience.touched == 3  # as the waiting began, and for as many sites as there are


def test_whoever_waits_learns_that_it_is_pointless(pair: Sites) -> None:
    pair.gone = True
    with pytest.raises(ConnectionAbortedError):
        pair.posts[1].gather(When(0, "", 0), {(0, 2)})


# -- who takes nothing, and who is gone


def test_two_who_send_each_other_a_lot_at_once_both_go_on() -> None:
    """Each more than the other takes unasked and than may be queued: they take while they wait."""
    sites = Sites((0, 1), credit=1000, outgoing=500)
    got: list[Any] = []

    def one(post: SitePost) -> None:
        own, other = post.index, 1 - post.index
        for phase in range(100):
            post.send(header(own, other, 0, phase), PAYLOAD)
        for phase in range(100):
            got.append(post.gather(When(0, "", phase), {(other, own)})[other, own])

    threads = [threading.Thread(target=one, args=(post,)) for post in sites.posts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert len(got) == 200
    assert all(not post.dropped for post in sites.posts)


def test_a_peer_that_takes_nothing_is_given_up_and_told_that_it_gets_no_more() -> None:
    """It does not wait for what will not come, and takes part again."""
    sites = Sites((0, 1), credit=200, outgoing=300)
    first, second = sites.posts
    first.deadlines[1].seconds = 0.0
    for round in range(40):
        first.send(header(0, 1, round), PAYLOAD)
    assert first.given_up == {1}
    assert sites.wires.ends[0].queued(1) < 300 + 2 * 80 + 40 * 80  # and a mark for each round
    got = []
    for round in range(40):
        got.append(len(second.gather(When(round, "", 0), {(0, 1)}, whole=False)))
    assert 1 < sum(got) < 10
    assert got == sorted(got, reverse=True)
    assert second.given_up == set()
    first.given_up.discard(1)  # it is heard again
    first.send(header(0, 1, 40), PAYLOAD)
    assert len(second.gather(When(40, "", 0), {(0, 1)})) == 1


def test_who_cannot_do_without_says_that_others_went_on(pair: Sites) -> None:
    first, second = pair.posts
    first._skip(1, header(0, 2))
    with pytest.raises(RunError, match=r"node 0 went on without this site"):
        second.gather(When(0, "", 0), {(0, 2)})


def test_nobody_waits_for_a_site_that_is_gone_nor_sends_to_it_until_it_is_back() -> None:
    sites = Sites((0, 1, 2))
    first, _, third = sites.posts
    third.leave(1)
    first.send(header(0, 2), PAYLOAD)
    for whole in (True, False):
        when = When(int(not whole), "", 0)
        first.send(header(0, 2, when.round), PAYLOAD)
        assert list(third.gather(when, {(0, 2), (1, 2)}, whole)) == [(0, 2)]
    third.send(header(2, 1, 1), PAYLOAD)
    assert (2, 1, len(PAYLOAD)) not in sites.wires.log
    third.back(1, 4)
    third.send(header(2, 1, 3), PAYLOAD)
    assert (2, 1, len(PAYLOAD)) not in sites.wires.log
    assert third.gather(When(3, "", 0), {(1, 2)}) == {}
    third.send(header(2, 1, 4), PAYLOAD)
    assert (2, 1, len(PAYLOAD)) in sites.wires.log
    sites.posts[1].send(header(1, 2, 4), PAYLOAD)
    assert list(third.gather(When(4, "", 0), {(1, 2)})) == [(1, 2)]


@pytest.mark.parametrize("whole", [True, False])
def test_who_needs_all_ends_where_a_site_is_gone(whole: bool) -> None:
    third = Sites((0, 1, 2)).posts[2]
    third.needs_all = "keeps copies of all"
    third.leave(1)
    with pytest.raises(RunError, match=r"node 1 is gone.*algorithm keeps copies of all"):
        third.gather(When(0, "", 0), {(0, 2), (1, 2)}, whole)


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


# -- what is no message


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

    Finding 1: who came first under a worker's name was taken for it.
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


# -- a site that has proven who it is and means no good


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
