"""A peer that is who it says it is, and says what it likes: a socket, a channel and no manners."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

from hansa.engine.links import speech
from hansa.engine.links.channel import Channel, channel_of
from hansa.engine.links.hello import Hello
from hansa.engine.links.speech import Say
from hansa.engine.links.ticket import Ticket

SECONDS = 60.0


class Rogue:
    """Reaches for a site and says what it is told to.

    Args:
        ticket: of the peer that it is.
        address: ``host:port`` of the site.
        victim: the site's number.
    """

    def __init__(self, ticket: Ticket, address: str, victim: int) -> None:
        self.ticket, self.victim = ticket, victim
        host, _, port = address.rpartition(":")
        self.sock = socket.create_connection((host, int(port)), timeout=SECONDS)
        self.channel: Channel = channel_of(ticket, True, ticket.peer(victim))
        self.heard: list[bytes] = []
        self.sock.sendall(self.channel.outgoing())
        while not self.channel.ready:
            self.hear()
            self.sock.sendall(self.channel.outgoing())

    def hear(self) -> bool:
        """Take what comes next; no: the connection has ended."""
        try:
            data = self.sock.recv(1 << 16)
        except ConnectionError:
            return False
        self.heard += [bytes(frame) for frame in self.channel.receive(data)]
        return bool(data)

    def say(self, *parts: bytes) -> None:
        """One frame."""
        for piece in self.channel.seal(*parts):
            self.sock.sendall(piece)

    def greet(self, **changes: Any) -> None:
        """Say who it is."""
        said: dict[str, Any] = {
            "site": self.ticket.site,
            "to": self.victim,
            "run": self.ticket.run,
            "incarnation": 0,
            "start": b"a rogue.",
        }
        self.say(bytes((Say.HELLO,)), Hello(**said | changes).pack())

    def begin(self, window: int = 1 << 30, received: int = 0) -> None:
        """Greet and agree on the connection, letting the site send so many bytes."""
        self.greet()
        self.until(lambda frame: frame[0] == Say.RESUME)
        self.resume(window, received)

    def resume(self, window: int, received: int) -> None:
        """Go along with the connection that the site has chosen."""
        number = speech.read_resume(memoryview(self.heard[-1])[1:])[0]
        self.say(speech.resume(number, received, window))

    def until(self, wanted: Callable[[bytes], bool]) -> bytes:
        """Hear until such a frame comes; the frames before it are gone."""
        while True:
            while not self.heard:
                if not self.hear():
                    raise ConnectionError("the site has ended the connection")
            for number, frame in enumerate(self.heard):
                if wanted(frame):
                    self.heard = self.heard[number : number + 1]
                    return frame
            self.heard.clear()

    def ended(self) -> bool:
        """Wait until the site ends the connection."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            if not self.hear():
                return True
        return False

    def close(self) -> None:
        self.sock.close()
