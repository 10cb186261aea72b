"""Links between sites over real sockets: what breaks, who pretends, and what is counted."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hansa.base.errors import ConfigError, RunError
from hansa.engine.links import links
from hansa.engine.links.hello import Hello, digests, disagreement
from hansa.engine.links.links import CONTROL, DATA
from hansa.engine.links.overhead import Traffic
from hansa.engine.links.ticket import Peer, Ticket

from ..toy.waiting import LONG
from .link_sites import SECRET, LinkSite, Stretch

Maker = Callable[..., LinkSite]


@pytest.fixture
def make() -> Iterator[Maker]:
    """Sites that are closed after the test."""
    sites: list[LinkSite] = []

    def made(*args: Any, **more: Any) -> LinkSite:
        sites.append(LinkSite(*args, **more))
        return sites[-1]

    yield made
    for site in sites:
        site.close()


@pytest.fixture
def stretch() -> Iterator[Callable[[str], Stretch]]:
    made: list[Stretch] = []

    def one(address: str) -> Stretch:
        made.append(Stretch(address))
        return made[-1]

    yield one
    for each in made:
        each.close()


def texts(site: LinkSite) -> list[bytes]:
    return [parts[0] for _, _, parts in site.got]


def test_messages_go_both_ways_over_the_one_link_that_somebody_dials(make: Maker) -> None:
    """Two links a pair were needed before, and both sites had to be reachable."""
    server, client = make(0), make(1, listen="")
    assert client.address == ""
    client.meet(server)
    parts = [b"", bytes(3 << 20), b"end", b""]
    client.links.send(0, DATA, parts)
    server.links.send(1, CONTROL, [b"back"])
    server.until(lambda: server.got)
    client.until(lambda: client.got)
    assert server.got == [(1, DATA, parts)]
    assert client.got == [(0, CONTROL, [b"back"])]
    assert client.links.flush(LONG)
    assert client.links.queued(0) == 0


@pytest.mark.parametrize("way", [0, 1])
def test_a_link_that_breaks_in_a_message_goes_on_where_it_was(
    make: Maker, stretch: Callable[[str], Stretch], way: int
) -> None:
    """Of five messages of 8 MB a reset lost four for good before."""
    server = make(1)
    between = stretch(server.address)
    client = make(0)
    between.cut_at = 3_000_000
    client.meet((1, between.address))
    sender, receiver = ((client, server), (server, client))[way]
    to = receiver.ticket.site
    messages = [random.Random(k).randbytes(8_000_000) for k in range(2)]
    for message in messages:
        sender.links.send(to, DATA, [message])
    receiver.until(lambda: len(receiver.got) == 2)
    assert sender.links.flush(LONG)
    assert [parts for _, _, parts in receiver.got] == [[message] for message in messages]
    assert between.connections >= 5
    sent = sender.links.overhead.of(to).sent
    received = receiver.links.overhead.of(1 - to).received
    assert sent.data == received.data == 16_000_000
    assert sent.causes["again"] > 0  # what was under way
    assert received.causes["again"] == 0


def balanced(traffic: Traffic) -> bool:
    causes = traffic.by_cause()
    return traffic.wire == traffic.data + sum(causes.values()) and min(causes.values()) >= 0


def test_bytes_on_the_socket_are_data_and_overhead(
    make: Maker, stretch: Callable[[str], Stretch]
) -> None:
    server = make(1)
    between = stretch(server.address)
    client = make(0)
    client.meet((1, between.address))
    for k in range(1, 50):
        client.links.send(1, DATA, [bytes(k * 1000), b"x" * k])
        server.links.send(0, k % 2, [b"y" * 100 * k])
    assert client.links.flush(LONG)
    assert server.links.flush(LONG)
    client.close()
    server.close()
    up, down = client.links.overhead.sent, client.links.overhead.received
    assert up.data == sum(k * 1000 + k for k in range(50))
    assert down.data == sum(100 * k for k in range(0, 50, 2))
    assert down.causes["control"] == sum(100 * k for k in range(1, 50, 2))
    assert (up.wire, down.wire) == tuple(between.passed)
    assert server.links.overhead.received.wire == up.wire
    for overhead in (client.links.overhead, server.links.overhead):
        assert balanced(overhead.sent)
        assert balanced(overhead.received)
    assert client.links.overhead.bytes_sent == up.wire - up.data


def test_a_site_that_is_started_anew_is_heard_behind_a_dead_connection(
    make: Maker, stretch: Callable[[str], Stretch]
) -> None:
    """Behind a half-open connection it was never heard before."""
    server = make(0)
    between = stretch(server.address)
    first = make(1, listen="")
    first.meet((0, between.address))
    first.links.send(0, DATA, [b"before"])
    server.until(lambda: server.got)
    between.frozen = 1  # the server will not hear that the first one ends
    first.close()
    assert server.connected(1)
    second = make(1, listen="", incarnation=1)
    second.meet((0, between.address))
    second.links.send(0, DATA, [b"after"])
    server.until(lambda: len(server.got) == 2)
    assert texts(server) == [b"before", b"after"]
    assert server.links.state(1).incarnation == 1
    server.links.send(1, DATA, [b"welcome"])
    second.until(lambda: second.got)


def test_an_older_start_and_a_second_site_of_one_number_are_refused(make: Maker) -> None:
    server, site = make(0), make(1, listen="", incarnation=3)
    site.meet(server)
    server.until(lambda: server.connected(1))
    for incarnation, why in ((2, "comes after start 3 of it"), (3, "there is a site 1 already")):
        other = make(1, listen="", incarnation=incarnation)
        other.meet(server)
        other.until(lambda other=other: other.links.state(0).refused)
        assert why in other.links.state(0).refused
        assert [line for line in server.links.notices() if why in line]
    assert server.connected(1)
    site.links.send(0, DATA, [b"still here"])
    server.until(lambda: server.got)


@pytest.mark.parametrize("there", ["never came", "refuses", "has ended"])
def test_last_words_wait_for_nobody_who_is_not_there(
    make: Maker, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site that left kept its last words for 15 s, also where it was alone."""
    monkeypatch.setattr(links, "_BACK", 0.0)
    site = make(1, listen="")
    if there != "never came":
        server = make(0, config={"rounds": 5} if there == "refuses" else {})
        site.meet(server)
        if there == "refuses":
            site.until(lambda: site.links.state(0).refused)
        else:
            site.until(lambda: site.connected(0))
            server.close()
            site.until(lambda: site.links.state(0).gone)
    site.links.send(0, DATA, [b"is anybody there?"])
    site.links.close(10_000.0)  # s, more than any test may take


def test_last_words_reach_who_is_there(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_BACK", 0.0)
    server, site = make(0), make(1, listen="")
    site.meet(server)
    site.until(lambda: site.connected(0))
    for at in range(200):
        site.links.send(0, DATA, [b"word %d" % at, bytes(50_000)])
    site.links.close(10_000.0)
    assert len(server.got) == 200


def test_a_busy_site_is_sent_no_more_than_it_allows(make: Maker) -> None:
    """Findings 3 and 4: 300 MB to a busy site, and of any round, stayed in its memory."""
    server = make(0, granting=False, settings={"ahead": 1 << 20})
    client = make(1, listen="")
    client.meet(server)
    for _ in range(300):
        client.links.send(0, DATA, [bytes(100_000)])
    server.until(lambda: sum(len(parts[0]) for _, _, parts in server.got) >= (1 << 20) - 200_000)
    assert not client.links.flush(0.3)
    assert sum(len(parts[0]) for _, _, parts in server.got) <= (1 << 20) + 100_000
    assert client.links.queued(0) > 28_000_000
    client.links.forget(0)
    while server.got:  # small grants arrive too
        _, _, parts = server.got.pop()
        server.links.grant(1, len(parts[0]))
    assert client.links.flush(LONG)
    client.links.send(0, DATA, [b"more"])
    server.until(lambda: b"more" in texts(server))


def test_settings_that_differ_are_named_on_both_sides(make: Maker) -> None:
    one = make(0, config={"train": {"lr": 0.1}, "rounds": 5, "model": "cnn"})
    two = make(1, config={"train": {"lr": 0.2}, "rounds": 6, "model": "cnn"})
    one.meet(two)
    for site in (one, two):
        other = 1 - site.ticket.site
        site.until(lambda site=site, other=other: site.links.state(other).refused)
        refused = site.links.state(other).refused
        assert "different settings of: rounds, train; make them the same" in refused
        assert not site.connected(other)
        assert len([line for line in site.links.notices() if "different settings" in line]) == 1


def test_versions_runs_and_numbers_that_differ_are_told() -> None:
    ticket = Ticket("a run", 0, (0, 1), secret=SECRET)
    hello = Hello(1, 0, "a run", 0, bytes(8))
    here = {"model": "x"}

    def said(**changes: Any) -> str:
        fields = {**vars(hello), "config": here, **changes}
        return disagreement(ticket, here, Hello.unpack(Hello(**fields).pack()))

    major, minor, _ = hello.version.split(".")[:3]
    assert said() == said(version=f"{major}.{minor}.99") == ""
    assert f"runs hansa 9.{minor}.0" in said(version=f"9.{minor}.0")
    assert "speaks versions 7 to 9" in said(protocol=(7, 9))
    assert said(protocol=(1, 9)) == ""
    assert "takes part in run another" in said(run="another")
    assert "looks for site 4" in said(to=4)
    assert "settings of: model, seed" in said(config={"model": "y", "seed": "1"})
    assert digests({"a": {"x": 1, "y": 2}}) == digests({"a": {"y": 2, "x": 1}})


def test_the_clock_on_the_wall_has_no_say(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: ahead)
    server, client = make(0), make(1, listen="")
    client.meet(server)
    client.links.send(0, DATA, [b"hello"])
    server.until(lambda: server.got)


def test_who_is_not_reached_is_named_with_the_reason(make: Maker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=r"cannot be listened at .*in use"):
            make(0, listen=f"127.0.0.1:{port}")
    site = make(0, sites=4)
    site.meet((1, f"127.0.0.1:{port}"), (2, "no.such.host.invalid:77"))
    site.until(lambda: site.links.state(1).why and site.links.state(2).why)
    assert f"site 1: nobody listens at 127.0.0.1:{port}" in site.links.state(1).why
    assert "no.such.host.invalid" in site.links.state(2).why
    site.meet((3, ""))
    site.until(lambda: "it has to reach for this site" in site.links.state(3).why)


def test_strangers_are_told_apart_and_disturb_nobody(make: Maker) -> None:
    server = make(0, settings={"handshake": 0.5})
    host, _, port = server.address.rpartition(":")
    with (
        socket.create_connection((host, int(port))) as silent,
        socket.create_connection((host, int(port))) as plain,
    ):
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        intruder = make(1, listen="", secret=bytes(32))
        intruder.meet(server)
        intruder.until(lambda: "secret" in intruder.links.state(0).why)
        plain.settimeout(LONG)
        while plain.recv(100):
            pass
        silent.settimeout(LONG)
        while silent.recv(100):
            pass
    notices: list[str] = []
    server.until(lambda: notices.extend(server.links.notices()) or len(notices) >= 3)
    assert any("is no site of hansa" in line for line in notices)
    assert any("did not say who it is in 0.5 s" in line for line in notices)
    assert any("secret" in line for line in notices)
    friend = make(1, listen="")
    friend.meet(server)
    server.until(lambda: server.connected(1))


def test_newcomers_come_no_faster_than_they_may(make: Maker) -> None:
    server = make(0, settings={"newcomers": 0.001})
    host, _, port = server.address.rpartition(":")
    taken = [socket.create_connection((host, int(port))) for _ in range(80)]
    server.until(lambda: any("come too fast" in line for line in server.links.notices()))
    for one in taken:
        one.close()


def test_another_number_than_its_own_is_refused(make: Maker) -> None:
    """Two sites with one address: who was looked for is not who is there."""
    server, other = make(1, sites=3), make(0, sites=3)
    other.meet((2, server.address))
    other.until(lambda: other.links.state(2).refused)
    assert "looks for site 2 and found site 1" in other.links.state(2).refused


def test_links_are_opened_when_they_are_used_and_closed_when_there_are_too_many(
    make: Maker,
) -> None:
    lazy = {"eager": False, "max": 1, "idle": 0.1}
    hub = make(0, sites=3, settings=lazy)
    others = [make(k, sites=3, settings=lazy) for k in (1, 2)]
    for site in (hub, *others):
        site.meet(*(other for other in (hub, *others) if other is not site))
    assert not hub.connected(1)
    hub.links.send(1, DATA, [b"a"])
    hub.until(lambda: hub.connected(1) and hub.links.queued(1) == 0)
    assert not hub.connected(2)
    hub.links.send(2, DATA, [b"b"])
    hub.until(lambda: hub.connected(2) and not hub.connected(1))
    assert hub.links.state(1).why == ""
    for k in (1, 2):
        others[k - 1].links.send(0, DATA, [b"again"])
        hub.links.send(k, DATA, [b"again"])
    hub.until(lambda: len(hub.got) == 2)
    for other in others:
        other.until(lambda other=other: len(other.got) == 2)


def test_two_that_only_dial_meet_through_a_third(make: Maker) -> None:
    """What goes through the relay is whole and counted once."""
    relay = make(2, sites=3, relays=(2,))
    ends = [make(k, sites=3, listen="", relays=(2,)) for k in (0, 1)]
    for site in ends:
        site.meet(relay, (1 - site.ticket.site, ""))
    big = random.Random(0).randbytes(9_000_000)
    for site in ends:
        site.links.send(1 - site.ticket.site, DATA, [b"%d" % site.ticket.site, big])
    for site in ends:
        site.until(lambda site=site: site.got)
        assert site.got[0][2][1] == big
        assert site.links.flush(LONG)
    assert relay.got == []
    relay.links.cut(0)
    ends[1].links.send(0, DATA, [b"after the cut"])
    ends[0].until(lambda: len(ends[0].got) == 2)
    for site in ends:
        other = 1 - site.ticket.site
        assert site.links.overhead.of(other).received.data >= len(big)
        assert balanced(site.links.overhead.sent)
        assert balanced(site.links.overhead.received)
    assert relay.links.overhead.sent.data == 0
    assert relay.links.overhead.sent.causes["relay"] > 2 * len(big)


def test_facts_reach_those_who_are_there_and_those_who_come(make: Maker) -> None:
    server, client = make(0), make(1, listen="")
    client.links.tell(round=3)
    client.meet(server)
    server.until(lambda: server.links.state(1).facts.get("round") == 3)
    client.links.tell(round=4, waits=[2])
    server.until(lambda: server.links.state(1).facts == {"round": 4, "waits": [2]})
    with pytest.raises(ValueError, match="more than"):
        client.links.tell(text="x" * 10_000)


def test_the_end_is_told_and_does_not_wait_for_the_dead(make: Maker) -> None:
    server, client = make(0), make(1, listen="")
    client.meet(server)
    client.links.send(0, DATA, [b"last"])
    client.close()
    server.until(lambda: server.links.state(1).gone)
    assert texts(server) == [b"last"]
    assert server.links.state(1).why == "site 1 has ended"
    server.links.send(1, DATA, [b"to nobody"])
    server.close()  # gives up after its two seconds
    with pytest.raises(RunError, match="have ended"):
        server.links.send(1, DATA, [b"x"])


def test_what_fails_in_the_hands_of_the_receiver_is_told(make: Maker) -> None:
    server, client = make(0), make(1, listen="")
    server.got = None  # type: ignore[assignment]
    client.meet(server)
    client.links.send(0, DATA, [b"x"])
    server.until(lambda: not server.links.flush(0))
    with pytest.raises(RunError, match="the links between sites failed"):
        server.links.tell(a=1)


def test_a_process_that_forgets_its_links_ends_all_the_same() -> None:
    code = (
        "from hansa.engine.links.links import Links\n"
        "from hansa.engine.links.ticket import Peer, Ticket\n"
        "ticket = Ticket('r', 0, (0, 1), (Peer(1),), secret=bytes(32))\n"
        "links = Links(ticket, None, lambda *a: None, lambda: None)\n"
        "links.start()\n"
        "links.meet([Peer(1, '127.0.0.1:9')])\n"
        "links.send(1, 0, [b'x'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], timeout=LONG, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_peer_with_another_key_or_address_is_met_anew(make: Maker) -> None:
    site, old = make(0), make(1)
    site.meet(old)
    site.until(lambda: site.connected(1))
    old.close()
    new = make(1, incarnation=1)
    site.links.meet([Peer(1, new.address)])
    site.until(lambda: site.links.state(1).incarnation == 1 and site.connected(1))
    site.links.send(1, DATA, [b"hello again"])
    new.until(lambda: new.got)
