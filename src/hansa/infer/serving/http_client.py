"""HTTP/1.1 to one member over connections that stay open, each call with a deadline of its own.

A call that is cancelled or out of time closes its connection, so that the member can notice. A
connection that had been idle may have been closed by the member in the meantime: such a call is
made once more on a new connection, within the same deadline; an inference changes nothing there.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from hansa.base.errors import ConfigError
from hansa.infer.serving.http_reader import BadResponse, Response, ResponseReader

IDLE = 32
"""Connections to a member that are kept open at most."""


class Unreachable(Exception):
    """No response came: no connection, or it broke."""


class _Stale(Exception):
    """A connection that had been idle broke before anything came."""


class _Wire(asyncio.Protocol):
    """One connection, one call at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self._reader: ResponseReader | None = None
        self._response: asyncio.Future[Response] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def ask(self, message: bytes, limit: int) -> asyncio.Future[Response]:
        """Send; the response comes in the future."""
        assert self.transport is not None
        self._reader = ResponseReader(limit)
        self._response = asyncio.get_running_loop().create_future()
        self.transport.write(message)
        return self._response

    @property
    def begun(self) -> bool:
        """Whether anything of a response has come."""
        return self._reader is not None and self._reader.started

    def data_received(self, data: bytes) -> None:
        if self._reader is None or self._response is None or self._response.done():
            self.close()  # nobody asked
            return
        try:
            response = self._reader.feed(data)
        except BadResponse as error:
            self._response.set_exception(error)
            self.close()
            return
        if response is not None:
            if not response.keeps:
                self.close()
            self._response.set_result(response)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._response is None or self._response.done():
            return
        assert self._reader is not None
        try:
            self._response.set_result(self._reader.end())
        except BadResponse as error:
            self._response.set_exception(Unreachable(str(exc or error)))

    def close(self) -> None:
        """Give the connection up at once."""
        self.closed = True
        if self.transport is not None:
            self.transport.abort()


class MemberClient:
    """Calls one server.

    Args:
        url: ``http://host:port/prefix`` or https.
        token: sent as a bearer token.
        ca: a file of certificates that are trusted instead of the system's.
        limit: bytes of a response at most.

    Raises:
        ConfigError: the address is none, or the certificates cannot be read.
    """

    def __init__(
        self, url: str, token: str | None = None, ca: str | None = None, limit: int = 1 << 26
    ) -> None:
        self.host, self.port, self.secure, self.prefix = split_url(url)
        self._limit = limit
        self._ssl: ssl.SSLContext | None = None
        if self.secure:
            try:
                self._ssl = ssl.create_default_context(cafile=ca)
            except (OSError, ssl.SSLError) as error:
                problem = f"holds no certificates that can be read ({error})"
                raise ConfigError("ca", ca, problem, "a PEM file") from None
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [f"Host: {host}:{self.port}", "Accept: application/json"]
        if token is not None:
            lines.append(f"Authorization: Bearer {token}")
        self._head = "".join(f"{line}\r\n" for line in lines)
        self._idle: list[_Wire] = []
        self._busy: set[_Wire] = set()

    def message(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """A request as it travels."""
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        size = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        return (
            f"{method} {self.prefix}{path} HTTP/1.1\r\n{self._head}{more}{size}\r\n".encode(
                "latin-1"
            )
            + body
        )

    async def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        left_s: float = 5.0,
    ) -> Response:
        """One call.

        Args:
            left_s: seconds until it is given up.

        Raises:
            TimeoutError: they have passed.
            Unreachable: there is no connection, or it broke.
            BadResponse: what came is no response.
        """
        message = self.message(method, path, body, headers or {})
        async with asyncio.timeout(left_s):
            try:
                return await self._once(message, fresh=False)
            except _Stale:
                return await self._once(message, fresh=True)

    async def _once(self, message: bytes, fresh: bool) -> Response:
        wire = None if fresh else self._kept()
        used = wire is not None
        if wire is None:
            wire = await self._connect()
        self._busy.add(wire)
        try:
            response = await wire.ask(message, self._limit)
        except Unreachable as error:
            if used and not wire.begun:
                raise _Stale from error
            raise
        except BaseException:
            wire.close()
            raise
        finally:
            self._busy.discard(wire)
        if not wire.closed and len(self._idle) < IDLE:
            self._idle.append(wire)
        else:
            wire.close()
        return response

    def _kept(self) -> _Wire | None:
        while self._idle:
            wire = self._idle.pop()
            if not wire.closed:
                return wire
        return None

    async def _connect(self) -> _Wire:
        loop = asyncio.get_running_loop()
        try:
            _, wire = await loop.create_connection(
                _Wire,
                self.host,
                self.port,
                ssl=self._ssl,
                server_hostname=self.host if self._ssl else None,
            )
        except (OSError, ssl.SSLError) as error:
            raise Unreachable(str(error) or type(error).__name__) from None
        return wire

    async def close(self) -> None:
        """Give up every connection."""
        for wire in [*self._idle, *self._busy]:
            wire.close()
        self._idle.clear()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)


def split_url(url: str) -> tuple[str, int, bool, str]:
    """(host, port, whether over TLS, path in front) of an address.

    Raises:
        ConfigError: it is no address of HTTP.
    """
    fix = "such as http://127.0.0.1:8001"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError("url", url, f"is no address ({error})", fix) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("url", url, "is no address of HTTP", fix)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError("url", parts.hostname, "has more than host, port and path", fix)
    secure = parts.scheme == "https"
    return parts.hostname, port or (443 if secure else 80), secure, parts.path.rstrip("/")
