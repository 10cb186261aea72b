"""Two sites that meet through a third: it carries what they say, and can neither read nor write."""

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hansa.engine.links.handshaking import Handshaking
from hansa.engine.links.keys import Key
from hansa.engine.links.links import CONTROL, DATA
from hansa.engine.links.refusal import ChannelError
from hansa.engine.links.relay import Op, Relay, Relayed, relayed
from hansa.engine.links.sealing import derived
from hansa.engine.links.speech import Say
from hansa.engine.links.ticket import Peer, Ticket
from hansa.engine.links.tls import TlsChannel

from .link_sites import LinkSite
from .rogue import Rogue

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
