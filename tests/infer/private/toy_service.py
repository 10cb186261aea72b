"""A service that hides numbers behind one-time masks: the protocol's stand-in for encryption.

Request: x + mask modulo 2^64; reply: 3 (x + mask) + step + 1, and noise that the server draws from
its secret; answer: 3 x + step + 1, which is the next step's x. As a program:
``serve FOLDER STEPS PORT`` and
``ask FOLDER STEPS PORT``.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.errors import HansaError
from hansa.infer.private.protocol.service import Equations

WIDTH = 4
HEAD = 8


class Unfitting(HansaError):
    """As the sessions would refuse."""

    code = "rejected"


class Cheating(HansaError):
    """As mode shares refuses a receiver whose check fails."""

    code = "cheating"


CHEATING = bytes([255]) * (HEAD + 8 * WIDTH)


def words(secret: bytes, *what: object) -> np.ndarray:
    """uint64 [WIDTH] drawn from a secret and a label."""
    digest = hashlib.shake_256(secret + repr(what).encode()).digest(8 * WIDTH)
    return np.frombuffer(digest, np.uint64)


def expected(rows: np.ndarray, steps: int) -> np.ndarray:
    """The logits in the clear, int64 [n, WIDTH]."""
    x = rows.astype(np.int64)
    for step in range(steps):
        x = 3 * x + step + 1
    return x


class ToySession:
    """A server's half."""

    def __init__(self, service: ToyService, secret: bytes) -> None:
        self.service, self.secret = service, secret
        self.at = (-1, 0)
        self.seen = b""

    def restore(self, query: int, payloads: Sequence[bytes]) -> None:
        self.at, self.seen = (query, len(payloads)), b"".join(payloads)

    def close(self) -> None:
        self.at = (-2, -2)

    def answer(self, query: int, step: int, payload: bytes) -> bytes:
        self.service.before(query, step)
        if query != self.at[0]:
            self.seen = b""
        elif step != self.at[1]:
            raise AssertionError(f"step {step} of a session at {self.at}")
        if len(payload) != HEAD + 8 * WIDTH:
            raise Unfitting("a request of another size")
        if payload == CHEATING:
            raise Cheating("the toy's check fails")
        self.at, self.seen = (query, step + 1), self.seen + payload
        x = np.frombuffer(payload[HEAD:], np.uint64)
        noise = hashlib.sha256(self.secret + self.seen).digest()
        body = (np.uint64(3) * x + np.uint64(step + 1)).tobytes()
        return self.service.spoil(query, step, noise + body)


@dataclass
class ToyService:
    """The shared part; steps a query, and one of an opening."""

    count: int = 3
    budgeted: bool = False
    name: bytes = b"toy"
    pad: int = 0

    def __post_init__(self) -> None:
        self.digest = hashlib.sha256(self.name).digest()
        self.weights, self.told_rows = hashlib.sha256(b"weights").digest(), 1
        self.outline = json.dumps({"steps": self.count}).encode()
        self.scheme = b"{}"
        self.equations = {"first": Equations(10, 100), "second": Equations(3, 90)}
        self.largest_request = HEAD + 8 * WIDTH + self.pad
        self.largest_reply = 32 + 8 * WIDTH

    def steps(self, query: int) -> int:
        return 1 if query < 0 else self.count

    def session(self, mask_seed: bytes, secret: bytes) -> ToySession:
        return ToySession(self, secret)

    def warm(self) -> None:
        """Nothing to compile."""

    def before(self, query: int, step: int) -> None:
        """For tests that want to be there."""

    def spoil(self, query: int, step: int, reply: bytes) -> bytes:
        """For tests that want another reply."""
        return reply


@dataclass
class ToyAnswers:
    """What a query comes to."""

    logits: np.ndarray
    classes: np.ndarray
    in_range: bool


class ToyClient:
    """A client's half."""

    rows = 1
    largest_reply = 32 + 8 * WIDTH

    def __init__(self, outline: bytes, scheme: bytes, mask_seed: bytes, secret: bytes) -> None:
        self.count, self.secret = json.loads(outline)["steps"], secret
        self.opened = b""

    def open(self) -> Generator[bytes, bytes, None]:
        self.opened = yield bytes(HEAD) + words(self.secret, "key").tobytes()

    def ask(self, query: int, rows: np.ndarray) -> Generator[bytes, bytes, ToyAnswers]:
        assert self.opened
        x = rows[0].astype(np.int64).astype(np.uint64)
        for step in range(self.count):
            mask = words(self.secret, query, step)
            reply = yield step.to_bytes(HEAD, "big") + (x + mask).tobytes()
            if len(reply) != self.largest_reply:
                raise HansaError("a reply of another size")
            x = np.frombuffer(reply[32:], np.uint64) - np.uint64(3) * mask
        logits = x.astype(np.int64)[None]
        fine = bool((np.abs(logits.astype(float)) < 1e9).all())
        return ToyAnswers(logits, logits.argmax(1), fine)


class DyingService(ToyService):
    """Kills its process before or after it has answered the request that a file names."""

    script: Path = Path()

    def _dies(self, query: int, step: int, when: str) -> None:
        if self.script.is_file() and self.script.read_text() == f"{query} {step} {when}":
            self.script.unlink()
            os.kill(os.getpid(), 9)

    def before(self, query: int, step: int) -> None:
        self._dies(query, step, "before")

    def spoil(self, query: int, step: int, reply: bytes) -> bytes:
        self._dies(query, step, "after")
        return reply


class DyingClient(ToyClient):
    """Kills its process once the reply to the step that a file names is there, or is used."""

    script: Path = Path()

    def ask(self, query: int, rows: np.ndarray) -> Generator[bytes, bytes, ToyAnswers]:
        steps = super().ask(query, rows)
        request = next(steps)
        step = 0
        while True:
            reply = yield request
            if self.script.is_file() and self.script.read_text() == f"{query} {step}":
                self.script.unlink()
                os.kill(os.getpid(), 9)
            try:
                request = steps.send(reply)
            except StopIteration as end:
                return end.value
            step += 1


def serve(folder: Path, count: int, port: int) -> None:
    """Serve the toy with keys and state in ``folder``; says its port, then figures."""
    from hansa.cli.answer import say_json
    from hansa.infer.private.protocol.desk import Desk
    from hansa.infer.private.protocol.pins import clients_in, identity_in
    from hansa.infer.private.protocol.private_server import PrivateServer, run
    from hansa.serving.listening import bound

    service = DyingService(count)
    service.script = folder / "die"
    known = folder / "clients"
    clients = clients_in(known) if known.is_dir() else None
    desk = Desk(service, folder / "state", identified=clients is not None)
    server = PrivateServer(desk, identity_in(folder, "server"), clients, workers=2)
    sock = bound("127.0.0.1", port)
    say: dict[str, Any] = {"ready": True, "port": sock.getsockname()[1]}
    say_json(run(server, sock, lambda: say_json(say)))


def ask(folder: Path, count: int, port: int) -> None:
    """Ask about five rows, with a state; a session that is there is gone on with."""
    from hansa.cli.answer import say_json
    from hansa.infer.private.protocol.client_state import digest_of, state_in
    from hansa.infer.private.protocol.pins import pin_of
    from hansa.infer.private.protocol.private_client import asking

    def opened(*parts: bytes) -> DyingClient:
        client = DyingClient(*parts)
        client.script = folder / "client_die"
        return client

    pin = pin_of(folder / "server.crt.pem")
    rows = np.arange(20).reshape(5, WIDTH)
    with state_in(folder / "client") as state:
        assert state is not None
        more = {"state": state, "resume": state.begun, "rows": digest_of(rows)}
        with asking(("127.0.0.1", port), pin, opened, **more) as client:
            logits = client.ask(rows).logits
    assert logits is not None
    say_json({"logits": logits.tolist(), "lines": client.traffic.lines})


if __name__ == "__main__":
    {"serve": serve, "ask": ask}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
