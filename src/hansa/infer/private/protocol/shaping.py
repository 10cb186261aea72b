"""A line as slow as one likes, on this machine: bytes a second and a round trip in either way.

It stands between a client and a server and passes bytes on, which it does not understand: each
piece leaves when those before it have been written out at the rate, and arrives half a round trip
later. What it leaves out: TCP's slow start, loss, and competing traffic.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from hansa.serving.listening import bound

_PIECES = (1 << 12, 1 << 18)
_PIECE_S = 1e-3
"""A piece takes the line about as long: shorter ones cost more here than on a line."""
_END = b""


@contextmanager
def shaped(
    address: tuple[str, int], megabytes_s: float, round_trip_ms: float
) -> Iterator[tuple[str, int]]:
    """The address of such a line to a server; it ends with the block.

    Args:
        megabytes_s: million bytes a second, in each direction.
        round_trip_ms: of an empty message, there and back.
    """
    sock = bound("127.0.0.1", 0)
    open_lines: list[socket.socket] = []
    stop = threading.Event()

    def accept() -> None:
        while not stop.is_set():
            try:
                near, _ = sock.accept()
                far = socket.create_connection(address)
            except OSError:
                return
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            open_lines.extend((near, far))
            for source, sink in ((near, far), (far, near)):
                _pipe(source, sink, megabytes_s * 1e6, round_trip_ms / 2e3)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        host, port = sock.getsockname()[:2]
        yield str(host), int(port)
    finally:
        stop.set()
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()
        for line in open_lines:
            _end(line)
        thread.join()


def _pipe(source: socket.socket, sink: socket.socket, rate: float, delay_s: float) -> None:
    pieces: queue.Queue[tuple[float, bytes]] = queue.Queue()

    size = int(min(max(rate * _PIECE_S, _PIECES[0]), _PIECES[1]))

    def take() -> None:
        free = 0.0  # when the line has written out what it was given
        while True:
            try:
                piece = source.recv(size)
            except OSError:
                piece = _END
            free = max(free, time.monotonic()) + len(piece) / rate
            pieces.put((free + delay_s, piece))
            if not piece:
                return
            # Not much more than a buffer is taken ahead, as a real line would push back.
            if (ahead := free - time.monotonic()) > 0.05:
                time.sleep(ahead - 0.05)

    def give() -> None:
        while True:
            when, piece = pieces.get()
            if (left := when - time.monotonic()) > 0:
                time.sleep(left)
            try:
                if not piece:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(piece)
            except OSError:
                return

    for work in (take, give):
        threading.Thread(target=work, daemon=True).start()


def _end(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()


def predicted_s(
    compute_s: float,
    bytes_up: int,
    bytes_down: int,
    exchanges: int,
    megabytes_s: float,
    round_trip_ms: float,
) -> float:
    """Seconds that exchanges take over such a line, where up and down take turns.

    Args:
        compute_s: of both sides together, one after the other.
        exchanges: requests that wait for their reply.
    """
    over = (bytes_up + bytes_down) / (megabytes_s * 1e6)
    return compute_s + over + exchanges * round_trip_ms / 1e3
