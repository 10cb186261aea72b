"""Sites with real links on this machine, and a stretch of network that a test can break."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from hansa.engine.links.limits import LinkSettings
from hansa.engine.links.links import Links
from hansa.engine.links.ticket import Peer, Ticket

from ..toy.waiting import until

SECRET = bytes(range(32))


class LinkSite:
    """A site that keeps what it is sent and, if wanted, grants it back at once."""

    def __init__(
        self,
        site: int,
        sites: int = 2,
        *,
        granting: bool = True,
        settings: dict[str, Any] | None = None,
        shaping: Callable[[int], Any] | None = None,
        **ticket: Any,
    ) -> None:
        peers = tuple(Peer(other) for other in range(sites) if other != site)
        chosen: dict[str, Any] = {"secret": SECRET, "peers": peers, **ticket}
        self.ticket = Ticket("a run", site, tuple(range(sites)), **chosen)
        self.got: list[tuple[int, int, list[bytes]]] = []
        self.granting = granting
        self._news = threading.Condition()
        self.links = Links(
            self.ticket, LinkSettings(**settings or {}), self._take, self._change, shaping
        )
        self.address = self.links.start()

    def _take(self, site: int, kind: int, parts: list[Any]) -> None:
        with self._news:
            self.got.append((site, kind, [bytes(part) for part in parts]))
            self._news.notify_all()
        if self.granting:
            self.links.grant(site, sum(len(part) for part in parts))

    def _change(self) -> None:
        with self._news:
            self._news.notify_all()

    def until(self, done: Callable[[], Any]) -> None:
        """Wait for something that a message or a change brings about, looking often."""
        until(done, lambda: f"{self.links.notices()}, {len(self.got)} messages", self._pause)

    def _pause(self, seconds: float) -> None:
        with self._news:
            self._news.wait(seconds)

    def meet(self, *others: LinkSite | tuple[int, str]) -> None:
        self.links.meet(
            Peer(other.ticket.site, other.address) if isinstance(other, LinkSite) else Peer(*other)
            for other in others
        )

    def connected(self, site: int) -> bool:
        return self.links.state(site).connected

    def close(self) -> None:
        self.links.close()


class Stretch:
    """A forwarder before a site: counts the bytes both ways, and breaks where it is told.

    Attributes:
        passed: bytes, toward the site and back.
        connections: how many there were.
        cut_at: break every connection when so many bytes have passed in one direction of it.
        frozen: of so many connections, the first, pass nothing more and say nothing.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._target = (host, int(port))
        self.passed = [0, 0]
        self.connections = 0
        self.cut_at: int | None = None
        self.frozen = 0
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._ear = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._ear.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._ear.accept()
                far = socket.create_connection(self._target)
                self.connections += 1
                with self._lock:
                    self._pairs.append((near, far))
                for way, (one, other) in enumerate(((near, far), (far, near))):
                    args = (way, one, other, self.connections)
                    threading.Thread(target=self._pass, args=args, daemon=True).start()

    def _pass(self, way: int, one: socket.socket, other: socket.socket, born: int) -> None:
        here = 0
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                while born <= self.frozen:
                    time.sleep(0.01)
                other.sendall(data)
                here += len(data)
                with self._lock:
                    self.passed[way] += len(data)
                if self.cut_at is not None and here >= self.cut_at:
                    self.cut()
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._ear.close()
        self.cut()
