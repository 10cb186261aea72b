"""A client's line to its server: TLS to a pinned certificate, lost and found again.

When it is tried again, and how often, is a table: nothing of it depends on what was received.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from hansa.base.errors import ConfigError, HansaError, WireError
from hansa.infer.private.protocol.codes import Refusal
from hansa.infer.private.protocol.frames import (
    HEADER_BYTES,
    Frame,
    Kind,
    read_header,
)
from hansa.infer.private.protocol.pins import Identity, client_context, matches

_PIECE = 1 << 18


class Unreachable(HansaError):
    """The server cannot be reached, or is lost and was not found again."""


class WrongServer(HansaError):
    """Who answers is not the server whose certificate is pinned. Nothing was sent to it."""


@dataclass(frozen=True)
class Retries:
    """When a lost line is tried again.

    Attributes:
        waits_s: before each new try; after the last it is given up.
        connect_s: for a line to stand.
        answer_s: for a reply, from its request on.
    """

    waits_s: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0)
    connect_s: float = 20.0
    answer_s: float = 300.0


@dataclass
class Traffic:
    """What went over the lines: frames with their headers, TLS not counted."""

    bytes_up: int = 0
    bytes_down: int = 0
    frames: int = 0
    lines: int = 0


def address_of(at: str, field: str = "at") -> tuple[str, int]:
    """Host and port of HOST:PORT.

    Raises:
        ConfigError: it is no such text.
    """
    host, colon, port = at.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(field, at, "is no address", "HOST:PORT, such as 127.0.0.1:7443")
    return host, int(port)


class Line:
    """One connection.

    Raises:
        WrongServer: the certificate is not the pinned one.
        OSError: there is no connection to be had.
    """

    def __init__(
        self,
        address: tuple[str, int],
        pin: str,
        context: ssl.SSLContext,
        retries: Retries,
        traffic: Traffic,
    ) -> None:
        self._traffic, self._answer_s = traffic, retries.answer_s
        self._heard = False
        plain = socket.create_connection(address, timeout=retries.connect_s)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = context.wrap_socket(plain)
        except BaseException:
            plain.close()
            raise
        if not matches(self._socket.getpeercert(binary_form=True), pin):
            self.close()
            raise WrongServer(
                f"{address[0]}:{address[1]} does not show the certificate {pin}, or it does not "
                "hold today; nothing was sent to it"
            )
        traffic.lines += 1

    def exchange(self, frame: Frame, limit: Callable[[Kind], int]) -> Frame:
        """Send a frame and receive the answer.

        Raises:
            OSError: the line is lost.
            WireError: what came is no frame.
        """
        until = time.monotonic() + self._answer_s
        data = memoryview(frame.encode())
        for at in range(0, len(data), _PIECE):
            self._wait(until)
            self._socket.sendall(data[at : at + _PIECE])
        self._traffic.bytes_up += len(data)
        header = read_header(self._exactly(HEADER_BYTES, until), limit)
        self._heard = True
        answer = header.with_body(self._exactly(header.size, until))
        self._traffic.bytes_down += HEADER_BYTES + header.size
        self._traffic.frames += 1
        return answer

    def close(self) -> None:
        """End the connection."""
        with suppress(OSError):
            self._socket.close()

    def _wait(self, until: float) -> None:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the server took too long")
        self._socket.settimeout(left)

    def _exactly(self, size: int, until: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._wait(until)
            piece = self._socket.recv(min(_PIECE, size - len(data)))
            if not piece:
                why = "" if self._heard else ": it may not know this client's certificate"
                raise ConnectionError(f"the server ended the connection{why}")
            data += piece
        return bytes(data)


class Telephone:
    """Exchanges frames with a server over as many lines as that takes.

    Args:
        greet: is called with every new line, before anything else goes over it.
        wait: waits so many seconds.
    """

    def __init__(
        self,
        address: tuple[str, int],
        pin: str,
        identity: Identity | None = None,
        retries: Retries = Retries(),
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.address, self.traffic = address, Traffic()
        self._pin, self._retries, self._pause = pin, retries, wait
        self._context = client_context(identity)
        self._line: Line | None = None

    def exchange(
        self,
        frame: Frame,
        limit: Callable[[Kind], int],
        greet: Callable[[Callable[[Frame], Frame]], None] | None = None,
    ) -> Frame:
        """The answer to a frame, which goes out again over a new line where one is lost.

        Args:
            greet: what goes over a new line first; is given what exchanges over it.

        Raises:
            Refusal: the server refuses.
            Unreachable: it could not be reached any more.
            WrongServer: another one answers in its place.
            WireError: what it sends is no answer.
        """
        waits = iter(self._retries.waits_s)
        while True:
            try:
                if self._line is None:
                    self._line = Line(
                        self.address, self._pin, self._context, self._retries, self.traffic
                    )
                    if greet is not None:
                        greet(partial(self._over, self._line, limit))
                return self._over(self._line, limit, frame)
            except Refusal as refusal:
                self.close()
                if not refusal.passing:
                    raise
                trouble: Exception = refusal
            except OSError as error:
                self.close()
                trouble = error
            except (HansaError, WireError):
                self.close()
                raise
            pause = next(waits, None)
            if pause is None:
                where = f"{self.address[0]}:{self.address[1]}"
                raise Unreachable(f"{where} cannot be reached: {trouble}") from trouble
            self._pause(pause)

    @staticmethod
    def _over(line: Line, limit: Callable[[Kind], int], frame: Frame) -> Frame:
        return _answered(line.exchange(frame, limit), frame)

    def close(self) -> None:
        """Hang up."""
        if self._line is not None:
            self._line.close()
            self._line = None


def _answered(answer: Frame, frame: Frame) -> Frame:
    if answer.kind is Kind.REFUSAL:
        raise Refusal.of(answer)
    pairs = {Kind.HELLO: Kind.WELCOME, Kind.REQUEST: Kind.REPLY, Kind.GOODBYE: Kind.GOODBYE}
    if answer.kind is not pairs[frame.kind] or (answer.query, answer.step) != (
        frame.query,
        frame.step,
    ):
        raise WireError("the server answers something else than was asked")
    if frame.session not in (answer.session, bytes(len(frame.session))):
        raise WireError("the server answers in another session")
    return answer
