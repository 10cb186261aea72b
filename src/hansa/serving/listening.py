"""An app on a port: over TLS or not, until it is asked to end, and then to the last request.

SIGTERM and Ctrl-C drain: nothing new is taken, what is under way is answered, and the process ends
well. A port that is taken, or certificates that do not fit, are told before anything is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import ipaddress
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.errors import ConfigError

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

BODY_LIMIT = 8 << 20
"""Bytes of a request's body at most, where nothing else is said."""
DRAIN_S = 30
"""Seconds that requests under way are waited for at the end."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Listening:
    """Where an app is served, and to whom.

    Attributes:
        port: 0: a free one.
        token_env: the environment variable with the token that requests must bear.
        cert, key: PEM files, for TLS.
        insecure: whether others may ask without a token.
        limit: bytes of a request's body at most.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token_env: str | None = None
    cert: Path | None = None
    key: Path | None = None
    insecure: bool = False
    limit: int = BODY_LIMIT

    def checked(self) -> str | None:
        """The token, once all that can be known before is known to be right.

        Raises:
            ConfigError: naming the option.
        """
        needs_libraries()
        if (self.cert is None) != (self.key is None):
            missing = "tls_key" if self.key is None else "tls_cert"
            raise ConfigError(missing, None, "TLS takes both", "--tls-cert FILE --tls-key FILE")
        token = token_from(self.token_env, "token_env")
        if token is None and not self.insecure and not is_loopback(self.host):
            problem = "is open to others, and nobody would have to bear a token"
            fix = "--token-env NAME, or --insecure where a proxy asks for it"
            raise ConfigError("host", self.host, problem, fix)
        if self.cert is not None and self.key is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.cert, self.key)
            except (OSError, ssl.SSLError) as error:
                problem = f"cannot be used with {self.key} ({error})"
                fix = "a certificate and its private key, as PEM"
                raise ConfigError("tls_cert", str(self.cert), problem, fix) from None
        return token


def needs_libraries() -> None:
    """Refuse to go on without the libraries that serve.

    Raises:
        ConfigError: says how to get them.
    """
    for library in ("starlette", "uvicorn"):
        if importlib.util.find_spec(library) is None:
            problem = "is not installed, and serving needs it"
            raise ConfigError(library, None, problem, "pip install 'hansa[serve]'")


def token_from(variable: str | None, field: str) -> str | None:
    """The token in an environment variable; None where none is named.

    Raises:
        ConfigError: it is empty, or could not stand in a header. Never shows it.
    """
    if variable is None:
        return None
    token = os.environ.get(variable, "").strip()
    if not token:
        problem = "is the name of no environment variable with a token in it"
        raise ConfigError(field, variable, problem, f"export {variable}=...")
    if not token.isascii() or not token.isprintable() or " " in token:
        problem = "holds a token with characters that no header can hold"
        raise ConfigError(field, variable, problem, "letters, digits and signs")
    return token


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bound(host: str, port: int) -> socket.socket:
    """A socket on an address.

    Raises:
        ConfigError: it is taken, or not this machine's.
    """
    sock = None
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # With its protocol told, or asyncio leaves Nagle's algorithm on: 40 ms an answer.
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(1024)
        return sock
    except OSError as error:
        if sock is not None:
            sock.close()
        why = (error.strerror or str(error)).lower()
        field, value = ("port", port) if not isinstance(error, socket.gaierror) else ("host", host)
        problem = f"cannot be listened on at {host}: {why}"
        raise ConfigError(field, value, problem, "another one; port 0 takes a free one") from None


def listen(app: Starlette, listening: Listening, sock: socket.socket, started: Say) -> str:
    """Serve an app on a socket until SIGTERM or Ctrl-C; returns its address.

    Args:
        started: is told the address once requests are answered.
    """
    port = sock.getsockname()[1]
    scheme = "http" if listening.cert is None else "https"
    host = f"[{listening.host}]" if ":" in listening.host else listening.host
    url = f"{scheme}://{host}:{port}"
    server = _server(app, listening, lambda: started(url))
    with _ending(server):
        asyncio.run(server.serve([sock]))
    return url


def _server(app: Starlette, listening: Listening, started: Callable[[], None]) -> uvicorn.Server:
    import uvicorn

    class Server(uvicorn.Server):
        """Signals are ours: uvicorn would raise them again once it has drained."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                started()

    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        timeout_graceful_shutdown=DRAIN_S,
        timeout_keep_alive=75,
        ssl_certfile=listening.cert,
        ssl_keyfile=listening.key,
        log_config=None,
    )
    return Server(config)


@contextlib.contextmanager
def _ending(server: uvicorn.Server) -> Iterator[None]:
    """While it serves, SIGTERM and Ctrl-C ask it to end."""

    def end(number: int, frame: Any) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
