"""A program served by a child of this process and asked over TLS, round by round measured."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.temporary import passing_folder
from hansa.infer.private.private_file import PrivateFile
from hansa.infer.private.protocol.codes import Refusal
from hansa.infer.private.protocol.loopback import keys_in, serve_in_child
from hansa.infer.private.protocol.model_service import SizedSide, client_side
from hansa.infer.private.protocol.pins import make_identity
from hansa.infer.private.protocol.private_client import PrivateClient, asking

_EACH = 16
"""Queries after which what came of them is kept."""


@dataclass
class Step:
    """One request and its reply, summed over queries.

    Attributes:
        client_s: CPU seconds of the client.
        waited_s: seconds from the request to the reply: the line and the server.
    """

    bytes_up: int = 0
    bytes_down: int = 0
    client_s: float = 0.0
    waited_s: float = 0.0
    times: int = 0


@dataclass
class Asked:
    """What a served program answered, as far as it was asked.

    Attributes:
        classes: of each row, in order.
        logits: accumulators of each row; empty where classes alone are revealed.
        in_range: whether everything decrypted was possible.
        steps: by their place in a query.
        opening: bytes up and down before the first query.
        server_s, client_s: CPU seconds.
        scheme: that the server told.
        refused: the code of a refusal that ended it, or nothing.
    """

    classes: list[int] = field(default_factory=list)
    logits: list[list[int]] = field(default_factory=list)
    in_range: bool = True
    queries: int = 0
    steps: list[Step] = field(default_factory=list)
    bytes_up: int = 0
    bytes_down: int = 0
    server_s: float = 0.0
    client_s: float = 0.0
    wall_s: float = 0.0
    scheme: dict[str, Any] = field(default_factory=dict)
    refused: str = ""

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {**vars(self), "steps": [vars(step) for step in self.steps]}

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Asked:
        """What :meth:`plain` wrote."""
        return cls(**{**facts, "steps": [Step(**step) for step in facts["steps"]]})


def ask_child(
    program: Path,
    chosen: PrivateFile,
    rows: np.ndarray,
    asked: Asked,
    keep: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    """Serve a program's file in a child and ask it about the rows that were not asked yet.

    Args:
        rows: float [n, *shape].
        asked: what came before; grows.
        keep: is called after every few queries.

    Raises:
        RunError: the child does not serve.
        Refusal: the server refuses for another reason than a spent budget.
    """
    with passing_folder("hansa-private-") as place:
        keys_in(place / "keys")
        own = make_identity(place / "own", "client")
        known = place / "clients"
        known.mkdir()
        shutil.copy(own.certificate, known)
        say("starting a server")
        with serve_in_child(_arguments(program, place, chosen)) as server:
            opened = _Opened(asked, chosen.threads)
            say(f"asking about {len(rows) - len(asked.classes)} rows, mode {chosen.mode}")
            with asking(server.address, server.pin, opened, identity=own) as client:
                client.open()
                each = 1 if chosen.mode == "budget" else _EACH  # a refusal ends what it is in
                _ask(client, max(each, opened.rows), rows, asked, keep)
        asked.server_s += float(server.final.get("compute_s", 0.0))
    keep()


def _arguments(program: Path, place: Path, chosen: PrivateFile) -> list[str]:
    return [
        str(program), "--keys", str(place / "keys"), "--state", str(place / "state"),
        "--clients", str(place / "clients"), "--at", "127.0.0.1:0",
        "--mode", chosen.mode, "--profile", chosen.profile, "--packing", chosen.packing,
        "--hides", chosen.shuffled, "--reveals", chosen.revealed,
        "--threads", str(chosen.threads),
    ]  # fmt: skip


def _ask(
    client: PrivateClient,
    each: int,
    rows: np.ndarray,
    asked: Asked,
    keep: Callable[[], None],
) -> None:
    before = asked.bytes_up, asked.bytes_down
    while (done := len(asked.classes)) < len(rows):
        try:
            made = client.ask(rows[done : done + each])
        except Refusal as refusal:
            if refusal.code != "budget" or not done:
                raise
            asked.refused = refusal.code
            return
        asked.classes += made.classes.tolist()
        if made.logits is not None:
            asked.logits += made.logits.tolist()
        asked.in_range &= bool(made.in_range.all())
        asked.queries += made.queries
        asked.client_s += made.compute_s
        asked.wall_s += made.wall_s
        asked.bytes_up = before[0] + client.traffic.bytes_up
        asked.bytes_down = before[1] + client.traffic.bytes_down
        keep()


class _Opened:
    """Makes the client's half of a session, and measures its rounds."""

    def __init__(self, asked: Asked, threads: int) -> None:
        self._asked, self._threads, self.rows = asked, threads, 1

    def __call__(self, outline: bytes, scheme: bytes, mask_seed: bytes, secret: bytes) -> SizedSide:
        self._asked.scheme = json.loads(scheme)
        side = client_side(outline, scheme, mask_seed, secret, self._threads)
        self.rows, plain = side.rows, side.ask
        side.ask = lambda query, rows: self._measured(plain(query, rows))
        return side

    def _measured(self, steps: Generator[bytes, bytes, Any]) -> Generator[bytes, bytes, Any]:
        at, reply = 0, None
        while True:
            began = time.thread_time()
            try:
                request = next(steps) if reply is None else steps.send(reply)
            except StopIteration as end:
                self._asked.steps[at - 1].client_s += time.thread_time() - began
                return end.value
            if at == len(self._asked.steps):
                self._asked.steps.append(Step())
            step = self._asked.steps[at]
            step.client_s += time.thread_time() - began
            sent = time.monotonic()
            reply = yield request
            step.waited_s += time.monotonic() - sent
            step.bytes_up += len(request)
            step.bytes_down += len(reply)
            step.times += 1
            at += 1
