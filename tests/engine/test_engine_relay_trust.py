"""Two sites that meet through a third: it carries what they say, and can neither read nor write."""

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hansa.base.errors import WireError
from hansa.engine.links import connection as connection_module
from hansa.engine.links import relay as relay_module
from hansa.engine.links.connection import Connection
from hansa.engine.links.handshaking import Handshaking
from hansa.engine.links.keys import Key
from hansa.engine.links.limits import LinkSettings
from hansa.engine.links.links import CONTROL, DATA
from hansa.engine.links.refusal import ChannelError
from hansa.engine.links.relay import PIECE, Op, Relay, Relayed, relayed
from hansa.engine.links.sealing import derived
from hansa.engine.links.speech import Say
from hansa.engine.links.ticket import Peer, Ticket
from hansa.engine.links.tls import TlsChannel

from .link_sites import LinkSite
from .rogue import Rogue
from .virtual_links import VirtualWorld

KEYS = [Key.generate(name) for name in ("north", "south", "relay", "stranger")]
RELAY = 2
TEXT = b"weights that the relay must not see, told once and again"


def ticket(site: int, **changes: Any) -> dict[str, Any]:
    """Of one of three sites that know each other by key."""
    peers = tuple(Peer(k, key=KEYS[k].fingerprint) for k in range(3) if k != site)
    return {"secret": b"", "key": KEYS[site], "peers": peers, "relays": (RELAY,)} | changes


class Carried:
    """What a relay is given to pass on; it may change it first."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, Relayed]] = []
        self.change: Callable[[int, Relayed], list[Relayed]] = lambda site, frame: [frame]
        self._lock = threading.Lock()

    def take(self, relay: Relay, site: int, frame: Relayed) -> None:
        with self._lock:
            self.frames.append((site, frame._replace(body=memoryview(bytes(frame.body)))))
        for each in self.change(site, frame):
            TAKE(relay, site, each)

    @property
    def bytes(self) -> bytes:
        """All that was passed on, one frame after the other."""
        with self._lock:
            return b"".join(bytes(frame.body) for _, frame in self.frames)


TAKE = Relay.take


@pytest.fixture
def carried(monkeypatch: pytest.MonkeyPatch) -> Carried:
    seen = Carried()
    monkeypatch.setattr(Relay, "take", lambda relay, site, frame: seen.take(relay, site, frame))
    return seen


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Bindings, and what the keys of all channels' frames come from."""
    kept: list[bytes] = []
    proven = Handshaking._proven

    def keep(channel: Handshaking, peer: str, binding: bytes, secret: bytes) -> None:
        kept.extend((binding, secret))
        for role in ("dialler", "listener"):
            direction = derived(secret, role, 32)
            kept.extend((direction, derived(direction, "key", 44)[:32]))
        proven(channel, peer, binding, secret)

    monkeypatch.setattr(Handshaking, "_proven", keep)
    return kept


@pytest.fixture
def sites() -> Iterator[list[LinkSite]]:
    """Two that only dial, and the relay."""
    relay = LinkSite(RELAY, 3, **ticket(RELAY))
    made = [LinkSite(site, 3, **ticket(site, listen="")) for site in (0, 1)] + [relay]
    for site in (0, 1):
        made[site].meet(relay, (1 - site, ""))
    yield made
    for each in made:
        each.close()


def pieces(secret: bytes) -> list[bytes]:
    """Parts of a secret, so that also a part of it would be seen."""
    return [secret[at : at + 8] for at in range(0, len(secret) - 7, 4)]


def test_a_relay_sees_neither_what_is_said_nor_a_key(
    sites: list[LinkSite], carried: Carried, secrets: list[bytes]
) -> None:
    big = random.Random(0).randbytes(300_000)
    for site in (0, 1):
        sites[site].links.send(1 - site, DATA, [TEXT, big])
        sites[site].links.send(1 - site, CONTROL, [TEXT])
    for site in (0, 1):
        sites[site].until(lambda site=site: len(sites[site].got) == 2)
        assert sites[site].got[0][2] == [TEXT, big]
    seen = carried.bytes
    assert len(seen) > 2 * len(big)
    hidden = [TEXT, *(big[at : at + 64] for at in range(0, len(big), 10_000))]
    for key in KEYS[:2]:
        hidden += [line for line in key.pem.splitlines() if len(line) == 64]
    assert len(secrets) >= 3 * 2 * 6  # of three channels, at both ends
    for secret in secrets:
        hidden += pieces(secret)
    assert not [each for each in hidden if each in seen]
    assert sites[RELAY].got == []
    # Who they are, it knows: it was asked to bring the two together.
    assert {frame.op for _, frame in carried.frames} >= {Op.OPEN, Op.DATA}


def altered(frame: Relayed) -> list[Relayed]:
    body = bytearray(frame.body)
    body[len(body) // 2] ^= 4
    return [frame._replace(body=memoryview(bytes(body)))]


def cut(frame: Relayed) -> list[Relayed]:
    return [frame._replace(body=frame.body[: len(frame.body) // 2])]


CHANGES: dict[str, Callable[[Relayed], list[Relayed]]] = {
    "altered": altered,
    "repeated": lambda frame: [frame, frame],
    "left out": lambda frame: [],
    "shortened": cut,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("number", [1, 3, 6])
def test_what_a_relay_changes_is_found_and_sent_again(
    sites: list[LinkSite], carried: Carried, change: str, number: int
) -> None:
    """Of the frames that it passes on, in the handshake and after it, one is not as it was."""
    passed = 0

    def once(site: int, frame: Relayed) -> list[Relayed]:
        nonlocal passed
        passed += frame.op == Op.DATA
        if frame.op == Op.DATA and passed == number:
            return CHANGES[change](frame)
        return [frame]

    carried.change = once
    texts = [b"%d: %s" % (number, TEXT) for number in range(20)]
    for text in texts:
        sites[0].links.send(1, DATA, [text])
    sites[1].until(lambda: len(sites[1].got) >= len(texts))
    assert [parts[0] for _, _, parts in sites[1].got] == texts
    assert passed >= number


def test_a_relay_cannot_speak_in_the_name_of_another() -> None:
    """It opens a circuit as if it came from site 1, and answers for it itself."""
    victim = LinkSite(0, 3, **ticket(0))
    try:
        for own in (RELAY, 3):  # its own key, and that of nobody
            rogue = Rogue(
                Ticket("a run", RELAY, (0, 1, 2), ticket(RELAY)["peers"], key=KEYS[RELAY]),
                victim.address,
                0,
            )
            rogue.greet(start=b"%08d" % own, incarnation=own)
            rogue.until(lambda frame: frame[0] == Say.RESUME)
            rogue.resume(1 << 30, 0)
            impostor = TlsChannel(KEYS[own], {KEYS[0].fingerprint}, True)
            rogue.say(*relayed(Op.OPEN, 5, 1).parts)
            assert inner(rogue, impostor)
            victim.until(lambda: victim.links._notices)
            (line,) = victim.links.notices()
            assert line.startswith(
                f"site 1, by way of a relay: has the key {KEYS[own].fingerprint}"
            )
            assert f"{KEYS[1].fingerprint} was expected" in line
            assert not victim.links.state(1).ever
            rogue.close()
        assert victim.got == []
    finally:
        victim.close()


def inner(rogue: Rogue, channel: TlsChannel) -> str:
    """Talk through the circuit until one end ends it; returns what the rogue is told."""
    while True:
        word = channel.outgoing()
        if word:
            rogue.say(*relayed(Op.DATA, 5, 1, word).parts)
        frame = rogue.until(lambda frame: frame[0] == Say.RELAY)
        rogue.heard.pop(0)
        said = Relayed.unpack(memoryview(frame)[1:])
        if said.op == Op.CLOSE:
            return ""
        if said.op == Op.DATA:
            try:
                assert not channel.receive(bytes(said.body))
            except ChannelError as error:
                return str(error)
        assert not channel.ready


def test_a_circuit_of_a_site_whose_key_is_not_known_yet_is_closed_and_nothing_breaks() -> None:
    """It was an error on the thread that moves the bytes, which ended all links of the site."""
    peers = (Peer(1), Peer(RELAY, key=KEYS[RELAY].fingerprint))
    victim = LinkSite(0, 3, **ticket(0, peers=peers))
    try:
        rogue = befriended(victim)
        for number, site in enumerate((1, RELAY, 0, 7)):
            rogue.say(*relayed(Op.OPEN, number, site).parts)
            answer = rogue.until(lambda frame: frame[0] == Say.RELAY)
            rogue.heard.pop(0)
            assert Relayed.unpack(memoryview(answer)[1:])[:3] == (Op.CLOSE, number, site)
        victim.links.tell(round=1)  # raises if the thread has failed
        assert victim.connected(RELAY)
        rogue.close()
    finally:
        victim.close()


def befriended(victim: LinkSite) -> Rogue:
    """The relay, as it is known to a site, and with its own ideas."""
    run = Ticket("a run", RELAY, (0, 1, 2), ticket(RELAY)["peers"], key=KEYS[RELAY])
    rogue = Rogue(run, victim.address, 0)
    rogue.begin()
    return rogue


class Slow:
    """The line of a site that takes nothing."""

    def __init__(self) -> None:
        self.frames: list[Relayed] = []

    @property
    def passing(self) -> int:
        return len(self.frames)

    def post(self, frame: Any) -> None:
        self.frames.append(Relayed.unpack(memoryview(b"".join(frame.parts))[1:]))


FLOODS: dict[str, Callable[[int], list[tuple[Op, int, bytes]]]] = {
    "circuits that come and go": lambda n: [(Op.OPEN, n, b""), (Op.CLOSE, n, b"")],
    "credit, a byte at a time": lambda n: [(Op.CREDIT, 1, b"\1\0\0\0")],
    "bytes, one at a time": lambda n: [(Op.DATA, 1, b"x")],
    "circuits": lambda n: [(Op.OPEN, n, b"")],
}


@pytest.mark.parametrize("flood", FLOODS)
def test_what_waits_at_a_relay_for_a_slow_site_is_bounded_whoever_floods_it(
    flood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "MOST_PASSING", 100)
    lines = {site: Slow() for site in range(3)}
    relay = Relay(lambda site: lines[site], 1 << 20, 64)  # type: ignore[arg-type,return-value]
    relay.take(0, Relayed(Op.OPEN, 1, 1, memoryview(b"")))
    for _ in range(40):
        relay.take(1, Relayed(Op.DATA, 1, 0, memoryview(bytes(1000))))
    lines[0].frames.clear()
    for number in range(2, 1000):
        for op, circuit, body in FLOODS[flood](number):
            relay.take(0, Relayed(op, circuit, 1, memoryview(body)))
        lines[0].frames.clear()  # who floods takes what it is told
    assert len(lines[1].frames) <= 50 + 2
    assert len(relay._circuits) <= 4
    relay.take(0, Relayed(Op.OPEN, 5000, 2, memoryview(b"")))  # others are reached as ever
    assert [frame.op for frame in lines[2].frames] == [Op.OPEN]


EXTRAS = [(Op.OPEN, b"x"), (Op.DATA, b""), (Op.DATA, bytes(PIECE + 1)), (Op.CREDIT, bytes(3))]
EXTRAS += [(Op.CREDIT, bytes(4)), (Op.CLOSE, bytes(1000))]


@pytest.mark.parametrize(("op", "body"), EXTRAS)
def test_nothing_goes_along_with_a_frame_that_nobody_counts(op: Op, body: bytes) -> None:
    with pytest.raises(WireError):
        Relayed.unpack(memoryview(b"".join(relayed(op, 1, 1, body).parts))[1:])


def test_a_peer_that_does_not_take_its_answers_loses_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Frames of a relay were put behind each other without end."""
    monkeypatch.setattr(connection_module, "MOST_PASSING", 100)
    world = VirtualWorld(LinkSettings())
    world.dial(0)
    world.heal()
    line = world.sites[0].pair.line
    assert isinstance(line, Connection)
    for number in range(1000):
        line.post(relayed(Op.CLOSE, number, 1))
        if number == 50:
            assert not line.closed
    assert line.closed
    assert world.sites[0].ended == ["does not take what is sent to it"]
