"""What somebody who sits on the wire gets of what sites say to each other."""

from __future__ import annotations

import contextlib
import socket
import threading


class Capture:
    """A forwarder before a listening site: keeps every byte of both directions.

    Give its ``address`` to those who should reach the site, and ask :meth:`holds` afterwards.

    Args:
        address: ``host:port`` of the site.

    Attributes:
        address: ``host:port`` where to reach for it instead.
        seen: bytes of each connection, those toward the site and those back.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._target = (host, int(port))
        self.seen: list[tuple[bytearray, bytearray]] = []
        self._ear = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._ear.getsockname()[1]}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._ear.accept()
                try:
                    far = socket.create_connection(self._target)
                except OSError:  # the site is not there at the moment
                    near.close()
                    continue
                self._open += [near, far]
                kept = (bytearray(), bytearray())
                self.seen.append(kept)
                for one, other, where in ((near, far, kept[0]), (far, near, kept[1])):
                    args = (one, other, where)
                    threading.Thread(target=self._pass, args=args, daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket, kept: bytearray) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                kept += data
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    @property
    def size(self) -> int:
        """Bytes that were kept."""
        return sum(len(one) for pair in self.seen for one in pair)

    def holds(self, canary: bytes) -> bool:
        """Whether some bytes that were said stand in what was kept, as they are."""
        return any(canary in one for pair in self.seen for one in pair)

    def close(self) -> None:
        """Forward nothing more."""
        for one in (self._ear, *self._open):
            one.close()
