"""A private server beside its client: in a thread of this process, or in a child of it."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hansa.base.child import command
from hansa.base.errors import RunError
from hansa.infer.private.protocol.private_server import PrivateServer
from hansa.serving.listening import bound

_START_S = 120


@dataclass
class Nearby:
    """A server on this machine.

    Attributes:
        pin: its fingerprint.
        final: what a child said at its end; of a server in a thread, ``figures()`` tells any time.
    """

    address: tuple[str, int]
    pin: str
    figures: Callable[[], dict[str, Any]]
    final: dict[str, Any] = field(default_factory=dict)


@contextmanager
def serve_in_thread(server: PrivateServer, pin: str, host: str = "127.0.0.1") -> Iterator[Nearby]:
    """A server in a thread, until the block ends."""
    sock = bound(host, 0)
    ready, begun = threading.Event(), threading.Event()
    ends: list[Callable[[], object]] = []

    async def main() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        ends.append(lambda: loop.call_soon_threadsafe(stop.set))
        begun.set()
        await server.serve(sock, stop, ready.set)

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="private server")
    thread.start()
    begun.wait()
    try:
        if not ready.wait(_START_S):
            raise RunError("the private server in a thread did not start")
        yield Nearby((host, sock.getsockname()[1]), pin, server.figures)
    finally:
        ends[0]()
        thread.join()


@contextmanager
def serve_in_child(arguments: Sequence[str]) -> Iterator[Nearby]:
    """``hansa infer private serve ARGUMENTS --json`` as a child, until the block ends.

    Raises:
        RunError: it ends before it is ready; says why.
    """
    line = [*command("hansa.cli", "infer", "private", "serve", *arguments, "--json")]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        facts = json.loads(first) if first.startswith("{") else {}
        if not facts.get("ready"):
            process.kill()
            why = facts.get("error", {}).get("message") or process.communicate()[1].strip()
            raise RunError(f"the private server did not start: {why}")
        address = str(facts["host"]), int(facts["port"])
        nearby = Nearby(address, str(facts["fingerprint"]), dict)
        yield nearby
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=_START_S)
        nearby.final.update(json.loads(rest.strip().splitlines()[-1]))
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def keys_in(folder: Path) -> Path:
    """A folder with keys of a server, made where there are none."""
    from hansa.infer.private.protocol.pins import CERTIFICATE, make_identity

    if not (folder / CERTIFICATE.format("server")).is_file():
        make_identity(folder, "server")
    return folder
