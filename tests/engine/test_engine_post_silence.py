"""Peers that say nothing, take nothing or are gone: whom a site waits for, and for how long."""

import threading
from typing import Any

import pytest

from hansa.base.errors import RunError
from hansa.engine.exchange.post import SitePost
from hansa.engine.exchange.wire import When

from .post_sites import LONG, PAYLOAD, Patience, Sites, header, some


def test_silence_ends_at_the_deadline_and_names_the_nodes(pair: Sites) -> None:
    first, second = pair.posts
    second.deadlines[0] = Patience(lambda: some(When(0, "", 0), second))
    first.send(header(0, 2), PAYLOAD)
    with pytest.raises(RunError, match=r"waited 300 s .* nodes? 1;") as caught:
        second.gather(When(0, "", 0), {(0, 2), (1, 2), (1, 3)})
    assert (caught.value.node, caught.value.round, caught.value.phase) == (1, 1, "exchange")


@pytest.mark.parametrize("what", ["junk", "an old message"])
def test_what_is_of_no_use_does_not_put_off_a_deadline(what: str) -> None:
    """Nor that of another, which says nothing at all: before, it was held open for ever."""
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
