"""Two ends of a channel in one process, and what lies between them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from hansa.engine.links.channel import Channel
from hansa.engine.links.keys import Key
from hansa.engine.links.refusal import ChannelError
from hansa.engine.links.secret import SecretChannel
from hansa.engine.links.ticket import Peer, Ticket
from hansa.engine.links.tls import TlsChannel

KINDS = ("secret", "tls")
SECRET = bytes(range(32))
KEYS = [Key.generate(name) for name in ("north", "south", "stranger")]
NORTH, SOUTH, STRANGER = KEYS
both = pytest.mark.parametrize("kind", KINDS)


def tickets(kind: str) -> tuple[Ticket, Ticket]:
    """Of two sites, 0 and 1, which know each other."""
    if kind == "secret":
        peers = [Peer(0), Peer(1)]
        return (
            Ticket("run", 0, (0, 1), (peers[1],), secret=SECRET),
            Ticket("run", 1, (0, 1), (peers[0],), secret=SECRET),
        )
    peers = [Peer(site, key=KEYS[site].fingerprint) for site in (0, 1)]
    return (
        Ticket("run", 0, (0, 1), (peers[1],), key=KEYS[0]),
        Ticket("run", 1, (0, 1), (peers[0],), key=KEYS[1]),
    )


def pair(kind: str) -> tuple[Channel, Channel]:
    """Dialler and listener, before a word is said."""
    if kind == "secret":
        return SecretChannel(SECRET, "run", True), SecretChannel(SECRET, "run", False)
    return (
        TlsChannel(KEYS[0], {KEYS[1].fingerprint}, True),
        TlsChannel(KEYS[1], {KEYS[0].fingerprint}, False),
    )


@dataclass
class Talk:
    """What two ends said to each other until neither had any more to say.

    Attributes:
        words: what was written, and by whom ("dialler", "listener"), in order.
        errors: what each end made of it, if it ended the channel.
    """

    words: list[tuple[str, bytes]] = field(default_factory=list)
    errors: dict[str, ChannelError] = field(default_factory=dict)


def talk(dialler: Channel, listener: Channel, piece: int = 0) -> Talk:
    """Carry words to and fro; ``piece``: bytes that go at a time, 0 for all."""
    said = Talk()
    ends = {"dialler": (dialler, listener), "listener": (listener, dialler)}
    while True:
        quiet = True
        for who, (speaks, hears) in ends.items():
            word = speaks.outgoing()
            if not word:
                continue
            quiet = False
            said.words.append((who, word))
            other = "listener" if who == "dialler" else "dialler"
            for start in range(0, len(word), piece or len(word)):
                try:
                    assert not hears.receive(word[start : start + (piece or len(word))])
                except ChannelError as error:
                    said.errors.setdefault(other, error)
                    break
        if quiet:
            return said


def ready(kind: str, piece: int = 0) -> tuple[Channel, Channel]:
    """Dialler and listener that have accepted each other."""
    dialler, listener = pair(kind)
    assert not talk(dialler, listener, piece).errors
    assert dialler.ready
    assert listener.ready
    return dialler, listener


def sealed(channel: Channel, *parts: bytes) -> bytes:
    """One frame as it crosses the network."""
    return b"".join(channel.seal(*parts))


def one_line(error: ChannelError) -> str:
    """What an error says, if that is one line that is not too long."""
    text = str(error)
    assert text
    assert "\n" not in text
    assert len(text) < 400
    return text
