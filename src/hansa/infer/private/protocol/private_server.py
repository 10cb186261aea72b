"""A desk on a port: TLS 1.3, many clients at once, limits before memory, and a quiet end.

Every connection is a task of one event loop; what computes runs in a few threads, whose kernels let
go of the interpreter. A connection that is slow holds up nobody but itself and is cut when its time
is over. After a refusal the connection is closed; the session, if it was in order, is not.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hansa.base.errors import ConfigError, WireError
from hansa.base.files import lock
from hansa.base.threads import cores
from hansa.infer.private.protocol.allowances import Quotas
from hansa.infer.private.protocol.codes import Refusal
from hansa.infer.private.protocol.desk import Desk
from hansa.infer.private.protocol.frames import (
    HEADER_BYTES,
    LARGEST_FACTS,
    Frame,
    Kind,
    TooLarge,
    WrongVersion,
    read_header,
)
from hansa.infer.private.protocol.owned_files import own_folder
from hansa.infer.private.protocol.pins import ANYONE, Identity, fingerprint_of, server_context
from hansa.infer.private.protocol.service import Service
from hansa.serving.listening import bound

_SWEEP_S = 5.0
_PIECE = 1 << 16


@dataclass(frozen=True)
class Patience:
    """How long a server waits, and how much it holds.

    Attributes:
        greeting_s: for the TLS handshake, and for the first frame.
        frame_s: for a frame that has begun, or a reply to be taken, and ``slowest`` on top.
        idle_s: for the next frame of a connection.
        slowest: bytes a second at least of a long frame.
        held_bytes: of requests and replies of all connections.
        connections: at a time.
        client_connections: of one certificate, so that none shuts the others out.
        drain_s: for what is under way at the end.
    """

    greeting_s: float = 10.0
    frame_s: float = 20.0
    idle_s: float = 300.0
    slowest: float = 20e3
    held_bytes: int = 512 << 20
    connections: int = 256
    client_connections: int = 64
    drain_s: float = 30.0


class PrivateServer:
    """A desk's server.

    Args:
        clients: certificates that clients must have one of, by fingerprint; None: anyone may ask.
        workers: threads that compute; None: as many as there are cores.
    """

    def __init__(
        self,
        desk: Desk,
        identity: Identity,
        clients: dict[str, Any] | None = None,
        patience: Patience = Patience(),
        workers: int | None = None,
    ) -> None:
        self.desk, self.patience = desk, patience
        self._clients = clients
        self._context = server_context(identity, None if clients is None else [*clients.values()])
        self._workers = workers or cores()
        self._held = 0
        self._lines: Counter[str] = Counter()
        self._talking: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Task[None]] = set()
        self._draining = False
        self.bytes_in = self.bytes_out = 0

    def figures(self) -> dict[str, Any]:
        """What was done so far."""
        return {
            **asdict(self.desk.counts),
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
        }

    async def serve(
        self, sock: socket.socket, stop: asyncio.Event, ready: Callable[[], None]
    ) -> None:
        """Answer on a listening socket until ``stop`` is set, then to the last request."""
        self._pool = ThreadPoolExecutor(self._workers, "private")
        server = await asyncio.start_server(
            self._connected,
            sock=sock,
            ssl=self._context,
            ssl_handshake_timeout=self.patience.greeting_s,
            ssl_shutdown_timeout=1.0,
            limit=_PIECE,
        )
        sweep = asyncio.create_task(self._sweep())
        ready()
        try:
            await stop.wait()
        finally:
            self._draining = True
            server.close()
            sweep.cancel()
            for task in list(self._waiting):
                task.cancel()
            if self._talking:
                await asyncio.wait(self._talking, timeout=self.patience.drain_s)
            for task in list(self._talking):
                task.cancel()
            self._pool.shutdown(wait=True)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(_SWEEP_S, self.desk.quotas.idle_s / 4))
            await loop.run_in_executor(self._pool, self.desk.expire)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talking.add(task)
        try:
            await self._talk(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # it is gone, or too slow: its session is as it was
        except Exception:  # noqa: BLE001 - told to the operator; the client hears "failed"
            traceback.print_exc(file=sys.stderr)
            with suppress(OSError, TimeoutError):
                await self._send(writer, Refusal("failed").frame())
        finally:
            self._talking.discard(task)
            self._waiting.discard(task)
            with suppress(OSError, TimeoutError, asyncio.CancelledError):
                writer.close()
                async with asyncio.timeout(1.0):
                    await writer.wait_closed()
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        identity = self._identity(writer)
        if identity is None:
            await self._send(writer, Refusal("unknown_client").frame())
            return
        if len(self._talking) > self.patience.connections:
            await self._send(writer, Refusal("busy", "too many connections").frame())
            return
        self._lines[identity] += 1
        try:
            own = self._lines[identity]
            many = own > self.patience.client_connections and identity != ANYONE
            await self._answer(identity, reader, writer, many)
        finally:
            self._lines[identity] -= 1

    async def _answer(
        self,
        identity: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        many: bool,
    ) -> None:
        loop, first = asyncio.get_running_loop(), True
        while True:
            size = 0
            try:
                frame, size = await self._read(reader, first)
                self.bytes_in += HEADER_BYTES + size
                if many:  # told after it has spoken: else its words would cut the answer off
                    text = f"{self.patience.client_connections} connections are all of a client's"
                    raise Refusal("busy", text)
                reply = await loop.run_in_executor(self._pool, self.desk.dispatch, identity, frame)
            except Refusal as refusal:
                reply = refusal.frame()
            finally:
                self._held -= size
            self._held += len(reply.body)
            try:
                await self._send(writer, reply)
            finally:
                self._held -= len(reply.body)
            if reply.kind in (Kind.REFUSAL, Kind.GOODBYE):
                return
            first = False

    async def _read(self, reader: asyncio.StreamReader, first: bool) -> tuple[Frame, int]:
        """A frame, and the bytes that are held for it."""
        patience = self.patience
        try:
            head = await self._header(reader, patience.greeting_s if first else patience.idle_s)
            header = read_header(head, self._limit)
        except WrongVersion as error:
            raise Refusal("wrong_version", str(error)) from None
        except TooLarge as error:
            raise Refusal("too_large", str(error)) from None
        except WireError as error:
            raise Refusal("malformed", str(error)) from None
        if self._held + header.size > patience.held_bytes:
            raise Refusal("busy", "too many requests are under way")
        self._held += header.size
        try:
            async with asyncio.timeout(patience.frame_s + header.size / patience.slowest):
                body = await reader.readexactly(header.size)
            return header.with_body(body), header.size
        except BaseException as error:
            self._held -= header.size
            if isinstance(error, WireError):
                raise Refusal("malformed", str(error)) from None
            if isinstance(error, TimeoutError):
                raise Refusal("timed_out", "the frame did not come to its end") from None
            raise

    async def _header(self, reader: asyncio.StreamReader, wait: float) -> bytes:
        """The next header; the end of serving may come before it."""
        task = asyncio.current_task()
        assert task is not None
        if self._draining:
            raise Refusal("draining")
        self._waiting.add(task)
        try:
            async with asyncio.timeout(wait):
                return await reader.readexactly(HEADER_BYTES)
        except asyncio.CancelledError:
            if not self._draining:
                raise
            task.uncancel()
            raise Refusal("draining") from None
        finally:
            self._waiting.discard(task)

    def _limit(self, kind: Kind) -> int:
        if kind is Kind.REQUEST:
            return self.desk.service.largest_request
        return LARGEST_FACTS >> 8 if kind is Kind.HELLO else 0

    async def _send(self, writer: asyncio.StreamWriter, frame: Frame) -> None:
        data = frame.encode()
        writer.write(data)
        async with asyncio.timeout(self.patience.frame_s + len(data) / self.patience.slowest):
            await writer.drain()
        self.bytes_out += len(data)

    def _identity(self, writer: asyncio.StreamWriter) -> str | None:
        """The client's fingerprint; None where it has to show a certificate and does not."""
        if self._clients is None:
            return ANYONE
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        name = fingerprint_of(der or b"")
        return name if name in self._clients else None


def run(server: PrivateServer, sock: socket.socket, ready: Callable[[], None]) -> dict[str, Any]:
    """Serve until SIGTERM or Ctrl-C, from the main thread; what was done."""

    async def main() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await server.serve(sock, stop, ready)

    asyncio.run(main())
    return server.figures()


def listen(
    served: Callable[[], Service],
    made: Callable[[Desk], PrivateServer],
    state: Path,
    quotas: Quotas,
    address: tuple[str, int],
    identified: bool,
    ready: Callable[[int], None],
) -> dict[str, Any]:
    """Serve a service with its state in a folder, until SIGTERM or Ctrl-C; what was done.

    Args:
        served: makes the service, once the address and the folder are this server's.
        made: the server of a desk.
        ready: is told the port once requests are answered.

    Raises:
        ConfigError: the address is taken, or the folder is in use.
    """
    with state_of_one(state), bound(*address) as sock:
        server = made(Desk(served(), state, quotas, identified=identified))
        return run(server, sock, lambda: ready(sock.getsockname()[1]))


@contextmanager
def state_of_one(state: Path) -> Iterator[None]:
    """Hold a folder of a server's state against other servers.

    Raises:
        ConfigError: another one has it.
    """
    own_folder(state)
    with ExitStack() as held:
        try:
            held.enter_context(lock(state / "lock", wait=False))
        except BlockingIOError:
            problem = "is in use by another server"
            raise ConfigError("state", str(state), problem, "another folder") from None
        yield
