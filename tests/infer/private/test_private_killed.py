"""Either side as a process of its own, killed in the middle of a query: the same logits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from hansa.infer.private.protocol.dialing import Retries
from hansa.infer.private.protocol.pins import make_identity
from hansa.infer.private.protocol.private_client import asking

from .toy_service import ToyClient, expected

STEPS = 4
ROWS = np.arange(20).reshape(5, 4)
TOY = Path(__file__).with_name("toy_service.py")


def child(verb: str, folder: Path, port: int) -> subprocess.Popen[str]:
    line = [sys.executable, str(TOY), verb, str(folder), str(STEPS), str(port)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, text=True)


class Server:
    """A child that serves, and comes again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, 0
        self.start()

    def start(self) -> None:
        self.process = child("serve", self.folder, self.port)
        assert self.process.stdout is not None
        self.port = json.loads(self.process.stdout.readline())["port"]

    def die_at(self, query: int, step: int, when: str) -> None:
        (self.folder / "die").write_text(f"{query} {step} {when}")

    def again(self, seconds: float = 0) -> None:
        """In place of a client's pause: the server is back."""
        if self.process.poll() is not None or self.process.wait() is not None:
            assert self.process.returncode == -signal.SIGKILL
            self.close()
            self.start()

    def close(self) -> None:
        assert self.process.stdout is not None
        self.process.stdout.close()

    def end(self) -> dict[str, int]:
        self.process.send_signal(signal.SIGTERM)
        text, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return dict(json.loads(text.splitlines()[-1]))


@contextmanager
def server_in(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        server.close()


def test_a_server_that_is_killed_goes_on_with_its_sessions(tmp_path: Path) -> None:
    pin = make_identity(tmp_path, "server").fingerprint
    moments = iter([(0, 1, "after"), (1, 3, "before"), (4, 0, "after")])
    with server_in(tmp_path) as server:
        server.die_at(*next(moments))

        def pause(seconds: float) -> None:
            server.again()
            if (moment := next(moments, None)) is not None:
                server.die_at(*moment)

        retries = Retries((0.0,) * 3)
        at = ("127.0.0.1", server.port)
        with asking(at, pin, ToyClient, retries=retries, wait=pause) as client:
            assert np.array_equal(client.ask(ROWS).logits, expected(ROWS, STEPS))
        assert client.traffic.lines == 4
        assert server.end()["refusals"] == 0


@pytest.mark.parametrize("moment", ["0 0", "2 3"])
def test_a_client_that_is_killed_goes_on_with_its_session(tmp_path: Path, moment: str) -> None:
    make_identity(tmp_path, "server")
    with server_in(tmp_path) as server:
        (tmp_path / "client_die").write_text(moment)
        process = child("ask", tmp_path, server.port)
        process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL
        assert sorted(path.name for path in (tmp_path / "client").iterdir())
        process = child("ask", tmp_path, server.port)
        text, _ = process.communicate(timeout=120)
        assert json.loads(text)["logits"] == expected(ROWS, STEPS).tolist()
        figures = server.end()
    assert (figures["sessions"], figures["queries"], figures["refusals"]) == (1, 5, 0)
    assert figures["requests"] == 1 + 5 * STEPS  # nothing was asked twice


def test_both_are_killed(tmp_path: Path) -> None:
    make_identity(tmp_path, "server")
    with server_in(tmp_path) as server:
        (tmp_path / "client_die").write_text("1 1")
        process = child("ask", tmp_path, server.port)
        process.communicate(timeout=120)
        os.kill(server.process.pid, signal.SIGKILL)
        server.again()
        text, _ = child("ask", tmp_path, server.port).communicate(timeout=120)
        assert json.loads(text)["logits"] == expected(ROWS, STEPS).tolist()
        assert server.end()["sessions"] == 0  # of its own life: the session is the old one


def test_a_server_that_is_asked_to_end_drains(tmp_path: Path) -> None:
    make_identity(tmp_path, "server")
    with server_in(tmp_path) as server:
        text, _ = child("ask", tmp_path, server.port).communicate(timeout=120)
        assert json.loads(text)["lines"] == 1
        assert server.end()["queries"] == 5
