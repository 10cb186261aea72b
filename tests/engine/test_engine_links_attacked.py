"""A site whose peer has proven who it is and misuses it: the site goes on."""

from collections.abc import Iterator
from typing import Any

import pytest

from hansa.base.errors import WireError
from hansa.engine.links import session as session_module
from hansa.engine.links import speech
from hansa.engine.links.assembly import HEAD, LENGTH
from hansa.engine.links.limits import LinkSettings
from hansa.engine.links.links import DATA, Links
from hansa.engine.links.session import Session
from hansa.engine.links.speech import Say

from ..toy.waiting import until
from .channel_ends import KINDS, tickets
from .rogue import Rogue

SETTINGS = LinkSettings(ahead=1 << 16, message=1 << 20, chunk=1 << 12, hello=1 << 12)


class Victim:
    """Site 0 of two, over real sockets."""

    def __init__(self, kind: str) -> None:
        self.got: list[tuple[int, int, list[Any]]] = []
        self.ticket, self.other = tickets(kind)
        self.links = Links(
            self.ticket, SETTINGS, lambda *message: self.got.append(message), lambda: None
        )
        self.address = self.links.start()

    def rogue(self) -> Rogue:
        return Rogue(self.other, self.address, 0)

    def check(self) -> None:
        """The links are whole, and hear the peer once it has manners."""
        self.links.tell(round=1)  # raises if the thread that moves the bytes has failed
        before = len(self.got)
        rogue = self.rogue()
        rogue.greet(incarnation=1 + self.links.state(1).incarnation, start=b"sorry!!!")
        rogue.until(lambda frame: frame[0] == Say.RESUME)
        rogue.resume(1 << 30, 0)
        rogue.say(speech.chunk(0), message(b"honest"))
        until(lambda: len(self.got) > before, "an honest message")
        assert [bytes(part) for part in self.got[-1][2]] == [b"honest"]
        rogue.close()


def message(*parts: bytes, kind: int = DATA) -> bytes:
    """A message as it stands in the stream."""
    lengths = b"".join(LENGTH.pack(len(part)) for part in parts)
    return HEAD.pack(kind, len(parts)) + lengths + b"".join(parts)


@pytest.fixture(params=KINDS)
def victim(request: pytest.FixtureRequest) -> Iterator[Victim]:
    site = Victim(request.param)
    yield site
    site.links.close(0)


def test_who_says_that_it_has_what_was_not_sent_ends_its_own_connection_alone(
    victim: Victim,
) -> None:
    victim.links.send(1, DATA, [bytes(1 << 15)])
    rogue = victim.rogue()
    rogue.begin(window=1 << 13)
    rogue.until(lambda frame: frame[0] == Say.CHUNK)
    rogue.close()
    liar = victim.rogue()
    liar.greet(seen=1)
    liar.until(lambda frame: frame[0] == Say.RESUME)
    liar.resume(1 << 30, HEAD.size + LENGTH.size + (1 << 15))  # all of it, of which 8 KiB were sent
    assert liar.ended()
    victim.check()


NONSENSE: dict[str, list[bytes]] = {
    "an empty frame": [b""],
    "a frame that is none": [b"\xff"],
    "a chunk with a gap": [speech.chunk(5) + b"later"],
    "an empty chunk": [speech.chunk(0)],
    "a message of no parts": [speech.chunk(0) + HEAD.pack(0, 0)],
    "a message of an unknown kind": [speech.chunk(0) + HEAD.pack(9, 1)],
    "a message of too many parts": [speech.chunk(0) + HEAD.pack(0, 65535)],
    "a message that is too long": [speech.chunk(0) + HEAD.pack(0, 1) + LENGTH.pack(1 << 21)],
    "lengths that overflow": [speech.chunk(0) + HEAD.pack(0, 2) + LENGTH.pack((1 << 64) - 1) * 2],
    "more than it was allowed": [
        speech.chunk(at * 1000) + bytes(1000) if at else speech.chunk(0) + message(bytes(1 << 20))
        for at in range(2)
    ],
    "an acknowledgement of nothing": [speech.ack(1 << 63, 1 << 63)],
    "a short acknowledgement": [bytes((Say.ACK,)) + b"abc"],
    "a second greeting": [bytes((Say.HELLO,)) + b"\x80"],
    "another connection's number": [speech.resume(1 << 40, 0, 1)],
    "facts that are none": [bytes((Say.PING,)) + b"\xc1"],
    "facts without a name": [bytes((Say.PING,)) + b"\x81\x01\x02"],
    "facts without end": [bytes((Say.PING,)) + b"\x91" * 4000],
    "more facts than fit": [bytes((Say.PING,)) + b"\xda\x20\x00" + bytes(1 << 13)],
    "an end for no reason": [bytes((Say.BYE, 99))],
    "a refusal that is none": [bytes((Say.REFUSE,)) + b"\xff"],
    "no word for a relay": [bytes((Say.RELAY, 9)) + bytes(40)],
    "a relay's word that is none": [bytes((Say.RELAY,))],
}


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_nonsense_ends_the_connection_that_it_came_over(victim: Victim, nonsense: str) -> None:
    rogue = victim.rogue()
    rogue.begin()
    for frame in NONSENSE[nonsense]:
        rogue.say(frame)
    assert rogue.ended()
    victim.check()


GREETINGS: dict[str, dict[str, Any]] = {
    "another run": {"run": "another\n\x1b[31m" + "x" * 500},
    "no such site": {"site": 7},
    "the victim itself": {"site": 0},
    "for another": {"to": 3},
    "another protocol": {"protocol": (7, 9)},
    "another version": {"version": "99.9\n"},
    "other settings": {"config": {"rounds\n": "1", "x" * 300: "2"}},
}


@pytest.mark.parametrize("greeting", GREETINGS)
def test_who_greets_wrongly_is_told_why_in_one_line(victim: Victim, greeting: str) -> None:
    rogue = victim.rogue()
    rogue.greet(**GREETINGS[greeting])
    refusal = rogue.until(lambda frame: frame[0] == Say.REFUSE)
    assert rogue.ended()
    assert len(refusal) < 1200
    until(lambda: victim.links._notices, "a notice")
    for line in victim.links.notices():
        assert line.isprintable()
        assert len(line) < 1200
    victim.check()


def test_messages_of_a_byte_that_nobody_takes_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A head costs its sender none of what it may be ahead: 12 bytes of the stream, and here some
    hundreds for each."""
    monkeypatch.setattr(session_module, "_ALWAYS", 100)
    session = Session(window=1 << 10, chunk=1 << 12, longest=1 << 10)
    one = message(b"x")
    at = 0
    for _ in range(500):  # taken as they come, there is no end of them
        assert len(session.take(at, memoryview(one))) == 1
        session.grant(1)
        at += len(one)
    for _ in range(100):
        session.take(at, memoryview(one))
        at += len(one)
    with pytest.raises(WireError, match="101 messages here that were not taken"):
        session.take(at, memoryview(one))
