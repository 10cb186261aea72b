"""A client and a server of private inference in one process: what each of them spends and sends."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np

from hansa.infer.private.program import Program
from hansa.infer.private.sessions.scheme import Scheme
from hansa.infer.private.sessions.sides import client_session, server_model, server_session

T = TypeVar("T")


@dataclass
class Spent:
    """CPU seconds of all threads and bytes of payloads, of one query or several.

    Attributes:
        client, server: CPU seconds.
        up, down: bytes, without the frames around them.
        rounds: requests.
        each: CPU seconds of client and server together, a query.
    """

    client: float = 0.0
    server: float = 0.0
    up: int = 0
    down: int = 0
    rounds: int = 0
    each: list[float] = field(default_factory=list)

    def timed(self, side: str, call: Callable[[], T]) -> T:
        """What the call returns; its time is one side's."""
        began = time.process_time()
        try:
            return call()
        finally:
            setattr(self, side, getattr(self, side) + time.process_time() - began)


def seed(*words: object) -> bytes:
    """32 bytes for a session of a benchmark: the same every time, which no real session's are."""
    return hashlib.sha256(repr(words).encode()).digest()


class Pair:
    """One session: its opening is done, and counted apart.

    Args:
        threads: of either side.
    """

    def __init__(self, program: Program, scheme: Scheme, number: int = 0, threads: int = 1) -> None:
        self.program, self.set_up = program, Spent()
        self.model = self.set_up.timed("server", lambda: server_model(program, scheme, threads))
        mask_seed = seed("mask", number)
        self.server = self.set_up.timed(
            "server", lambda: server_session(self.model, mask_seed, seed("server", number))
        )
        self.client = self.set_up.timed(
            "client",
            lambda: client_session(
                self.model.outline, scheme, mask_seed, seed("client", number), threads
            ),
        )
        self._drive(self.client.open(), -1, self.set_up)
        self.queries, self.rows = 0, self.model.outline.rows

    def _drive(self, steps: Generator[bytes, bytes, Any], query: int, spent: Spent) -> Any:
        step, reply = 0, None
        while True:
            try:
                request = spent.timed("client", partial(_next, steps, reply))
            except StopIteration as end:
                return end.value
            reply = spent.timed("server", partial(self.server.answer, query, step, request))
            spent.up, spent.down = spent.up + len(request), spent.down + len(reply)
            step, spent.rounds = step + 1, spent.rounds + 1

    def ask(self, rows: np.ndarray, spent: Spent) -> Any:
        """The answers of one query; what it took is added."""
        before = spent.client + spent.server
        answers = self._drive(self.client.ask(self.queries, rows), self.queries, spent)
        spent.each.append(spent.client + spent.server - before)
        self.queries += 1
        return answers


def _next(steps: Generator[bytes, bytes, Any], reply: bytes | None) -> bytes:
    return next(steps) if reply is None else steps.send(reply)


def mismatches(program: Program, rows: np.ndarray, logits: np.ndarray) -> int:
    """How many logits differ from those of the program in the clear."""
    from hansa.infer.private.integer_net import evaluate, read_rows

    return int((evaluate(program, read_rows(program, rows)) != logits).sum())
