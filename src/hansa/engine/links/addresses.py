"""Addresses as people write them, ``host:port``, and sockets that listen or reach there."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from typing import Any, TypeAlias

from hansa.base.errors import ConfigError, RunError

_BACKLOG = 512
Place: TypeAlias = tuple[socket.AddressFamily, Any]
"""Family and address of a socket."""


def split(address: str, field: str = "address") -> tuple[str, int]:
    """(host, port) of ``host:port`` or ``[IPv6]:port``.

    Raises:
        ConfigError: it is none.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(field, address, "is no host:port", "such as 192.0.2.7:7710")
    return host, int(port)


def joined(host: str, port: int) -> str:
    """``host:port``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listening(address: str) -> socket.socket:
    """A socket that listens there and does not block.

    Raises:
        ConfigError: it cannot, such as where the port is in use.
    """
    host, port = split(address, "listen")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        problem = f"is not found ({error.strerror or error})"
        raise ConfigError("listen", address, problem, "an address of this machine") from error
    family, kind, proto, _, place = found[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(place)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        problem = f"cannot be listened at ({error.strerror or error})"
        fix = "another port, or end what uses this one; port 0 takes any that is free"
        raise ConfigError("listen", address, problem, fix) from error
    sock.setblocking(False)
    return sock


async def reach(address: str, seconds: float) -> socket.socket:
    """A connected socket.

    Raises:
        RunError: why nobody is reached there, as one line.
    """
    host, port = split(address)
    sock: socket.socket | None = None
    try:
        async with asyncio.timeout(seconds):
            for place in await _places(host, port):
                sock = socket.socket(place[0], socket.SOCK_STREAM)
                sock.setblocking(False)
                try:
                    await asyncio.get_running_loop().sock_connect(sock, place[1])
                except OSError as error:
                    failure = error
                    sock.close()
                    continue
                connected, sock = sock, None
                return connected
    except TimeoutError:
        raise RunError(
            f"no answer from {address} in {seconds:g} s; is the address right, and does a "
            "firewall let it through?"
        ) from None
    finally:
        if sock is not None:
            sock.close()
    if isinstance(failure, ConnectionRefusedError):
        raise RunError(f"nobody listens at {address}; is it started, and is the port right?")
    raise RunError(f"{address} is not reached ({failure.strerror or failure})")


async def _places(host: str, port: int) -> list[Place]:
    """Where a host is: from its name, asked for on a thread that nobody waits for at the end."""
    with contextlib.suppress(ValueError):
        version = ipaddress.ip_address(host).version
        return [(socket.AF_INET6 if version == 6 else socket.AF_INET, (host, port))]
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Place]] = loop.create_future()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            places: list[Place] = [(family, place) for family, _, _, _, place in found]
            problem = None
        except OSError as error:
            places, problem = [], RunError(f"no machine of the name {host!r} is found ({error})")
        with contextlib.suppress(RuntimeError):  # the loop is over
            loop.call_soon_threadsafe(tell, places, problem)

    def tell(places: list[Place], problem: RunError | None) -> None:
        if not answer.done():
            if problem is None:
                answer.set_result(places)
            else:
                answer.set_exception(problem)

    threading.Thread(target=ask, name="hansa-names", daemon=True).start()
    return await answer
