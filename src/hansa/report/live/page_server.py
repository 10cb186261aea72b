"""The live page over HTTP: three addresses, read only, for this machine's own browser.

The page, its script and a stream of server-sent events (WHATWG HTML, section 9.2) are all there
is. No address leads to a file. The server listens on loopback only, and answers only who asks it
by a loopback name: another site's page that points its own name here (DNS rebinding) learns
nothing.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hansa.base.errors import ConfigError
from hansa.report.live.follower import Follower

ADDRESS = "127.0.0.1"
PORT = 4848
_PAGES = 64  # streams at a time
_BEAT = 10.0  # s between two signs of life
_PATIENCE = 30.0  # s for a request, and for a page that takes nothing
_RETRY = 1000  # ms after which a page asks again
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@cache
def _text(name: str) -> bytes:
    return (Path(__file__).parent / name).read_bytes()


_PLACES = {"/": ("page.html", "text/html"), "/page.js": ("page.js", "text/javascript")}


class PageServer:
    """Serves the page of runs that are followed.

    Args:
        port: where it listens; 0: any that is free; None: the usual one, or else any that is free.

    Raises:
        ConfigError: the port is taken.
    """

    def __init__(self, follower: Follower, port: int | None = None) -> None:
        self.follower = follower
        self._lock = threading.Lock()
        self._streams: dict[int, int] = {}  # by number: the version that was sent
        self._count = 0
        self._http = self._bound(port)
        self._http.daemon_threads = True
        serve = self._http.serve_forever
        self._thread = threading.Thread(target=serve, name="hansa-page", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{ADDRESS}:{self.port}/"

    @property
    def told(self) -> bool:
        """Whether every page that is open has what is shown now."""
        with self._lock:
            return all(sent == self.follower.version for sent in self._streams.values())

    def start(self) -> None:
        """Serve in the background."""
        self._thread.start()

    def close(self) -> None:
        """Stop, and let every page go."""
        self.follower.close()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def enter(self) -> int | None:
        """The number of a stream that may begin; None where there are too many."""
        with self._lock:
            if len(self._streams) >= _PAGES:
                return None
            self._count += 1
            self._streams[self._count] = 0
            return self._count

    def sent(self, stream: int, version: int) -> None:
        """A page has what was shown at that version."""
        with self._lock:
            self._streams[stream] = version

    def leave(self, stream: int) -> None:
        """A stream has ended."""
        with self._lock:
            del self._streams[stream]

    def _bound(self, port: int | None) -> ThreadingHTTPServer:
        class Handler(_Handler):
            owner = self

        try:
            return _Server((ADDRESS, PORT if port is None else port), Handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            if port is None:
                return _Server((ADDRESS, 0), Handler)
            why = "is taken" if error.errno == errno.EADDRINUSE else "is not allowed here"
            fix = "another --port, or 0 for any that is free"
            raise ConfigError("port", port, why, fix) from None


class _Server(ThreadingHTTPServer):
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle is no error."""


class _Handler(BaseHTTPRequestHandler):
    owner: PageServer
    timeout = _PATIENCE
    server_version, sys_version = "hansa", ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not self._is_meant():
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, b"ask for 127.0.0.1\n", "text/plain")
        elif self.path in _PLACES:
            name, kind = _PLACES[self.path]
            self._answer(HTTPStatus.OK, _text(name), kind)
        elif self.path == "/events":
            self._stream()
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"there is no such page\n", "text/plain")

    def _is_meant(self) -> bool:
        """Whether it names this machine's loopback, and comes from no other site's page."""
        port = self.owner.port
        names = {f"{name}:{port}" for name in (ADDRESS, "localhost")}
        origin = self.headers.get("Origin")
        site = self.headers.get("Sec-Fetch-Site", "none")
        return (
            self.headers.get("Host", "").lower() in names
            and (origin is None or origin.lower() in {f"http://{name}" for name in names})
            and (site in ("none", "same-origin") or self.path == "/")
        )

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self._headers(f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _headers(self, kind: str) -> None:
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Content-Security-Policy", _POLICY)

    def _stream(self) -> None:
        stream = self.owner.enter()
        if stream is None:
            body = f"{_PAGES} pages are open already\n".encode()
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, body, "text/plain")
            return
        try:
            self.close_connection = True
            self.send_response(HTTPStatus.OK)
            self._headers("text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError):  # the page was closed
                self._tell(stream)
        finally:
            self.owner.leave(stream)

    def _tell(self, stream: int) -> None:
        follower, seen = self.owner.follower, 0
        self.wfile.write(b"retry: %d\n\n" % _RETRY)
        while not follower.closed:
            seen, messages = follower.wait(seen, _BEAT)
            for event, text in messages:
                self.wfile.write(f"event: {event}\ndata: {text}\n\n".encode())
            if not messages and not follower.closed:
                self.wfile.write(b": still here\n\n")
            if messages and follower.over:
                self.wfile.write(b"event: over\ndata: {}\n\n")
            self.owner.sent(stream, seen)

    def log_message(self, format: str, *args: Any) -> None:
        """Who looks at the page is nobody's business."""
