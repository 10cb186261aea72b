"""Ask a private server: one session, its queries, and going on after either side was killed.

Outwardly the client is a function of sizes and of what arrives, never of what that decrypts to: the
same requests of the same sizes go out whatever the replies hold, a reply of the wrong size ends the
session, and numbers out of range are told to the client's owner alone, after the last request.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from hansa.base.errors import ConfigError, RunError, WireError
from hansa.infer.private.protocol.client_state import ClientFacts, ClientState, digest_of
from hansa.infer.private.protocol.codes import Refusal
from hansa.infer.private.protocol.dialing import Retries, Telephone, Traffic
from hansa.infer.private.protocol.frames import (
    LARGEST_FACTS,
    NO_SESSION,
    OPENING,
    Frame,
    Kind,
    pack_facts,
    unpack_facts,
)
from hansa.infer.private.protocol.pins import Identity
from hansa.infer.private.protocol.service import ClientSide

_SECRET_BYTES = 32
Opened = Callable[[bytes, bytes, bytes, bytes], ClientSide]
"""(outline, scheme, mask seed, secret) to the client's half of a session; refuses what it must."""


@dataclass
class Predictions:
    """What came of the rows.

    Attributes:
        classes: int64 [n].
        logits: accumulators int64 [n, outputs]; None where only classes are revealed.
        in_range: whether all that was decrypted was possible, bool [n]; where not, the server did
            not do what it says, or the network is not the one of the outline.
        requests: of these queries; the opening's, and what was there of before, are not counted.
        compute_s: CPU seconds of this thread for them, without what goes over the line.
        traffic: of the session so far.
    """

    classes: np.ndarray
    logits: np.ndarray | None
    in_range: np.ndarray
    queries: int
    requests: int
    compute_s: float
    wall_s: float
    traffic: Traffic


class PrivateClient:
    """One session with a server.

    Args:
        pin: the server's fingerprint (see :mod:`pins`).
        identity: the client's certificate, where the server asks for one.
        state: where the session is kept, to go on with it in another process.
        resume: go on with the session that ``state`` holds.
        rows: digest of what will be asked; with a state each is a session for these rows alone.
        stored: rows are as the data are stored, and prepared before they are asked.
    """

    def __init__(
        self,
        address: tuple[str, int],
        pin: str,
        open_session: Opened,
        identity: Identity | None = None,
        state: ClientState | None = None,
        resume: bool = False,
        rows: str = "",
        stored: bool = False,
        retries: Retries = Retries(),
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._line = Telephone(address, pin, identity, retries, wait)
        self._state, self._opened = state, open_session
        self._pin, self._rows, self._stored = pin, rows, stored
        self._session, self._welcome = NO_SESSION, b""
        self._secret = secrets.token_bytes(_SECRET_BYTES)
        self._side: ClientSide | None = None
        self._limit = LARGEST_FACTS
        self._computing = 0.0
        self._requests = 0
        self._query = 0
        self._stuck = False
        self.queries_left = 0
        if resume:
            self._take_up()
        elif state is not None and state.begun:
            problem = "holds a session that did not come to its end"
            fix = "--resume goes on with it; or another folder"
            raise ConfigError("state", str(state.folder), problem, fix)

    def open(self) -> ClientSide:
        """Begin the session, or take it up, where that was not done; the client's half of it.

        Raises:
            Refusal, Unreachable, WrongServer, WireError: there is none to be had.
        """
        if self._side is None:
            self._begin()
        assert self._side is not None
        return self._side

    @property
    def traffic(self) -> Traffic:
        """What went over the line so far."""
        return self._line.traffic

    def ask(self, rows: np.ndarray, told: Callable[[int, int], None] | None = None) -> Predictions:
        """Predictions of rows [n, *input_shape], as many at a time as a query takes.

        Args:
            told: is told how many rows of how many are through.

        Raises:
            Refusal: the server refuses, by public code.
            Unreachable, WrongServer: it is gone, or is another.
            WireError: what it sends is none of the protocol.
        """
        first = self._first_query(rows)
        side = self.open()
        began, before = time.monotonic(), (self._computing, self._requests)
        kept = self._state.answers() if self._state is not None else {}
        parts: list[dict[str, np.ndarray]] = []
        starts = range(0, len(rows), side.rows)
        for query, start in enumerate(starts, first):
            if query not in kept:
                self._stuck = True  # until it is through, whatever happens meanwhile
                part = self._prepared(side, rows[start : start + side.rows])
                kept[query] = self._arrays(self._drive(side.ask(query, part), query), len(part))
                if self._state is not None:
                    self._state.keep_answer(self._session, query, kept[query])
                self._query, self._stuck = query + 1, False
            parts.append(kept[query])
            if told is not None:
                told(min(start + side.rows, len(rows)), len(rows))
        names = [name for name in ("classes", "logits", "in_range") if name in parts[0]]
        whole = {name: np.concatenate([part[name] for part in parts]) for name in names}
        return Predictions(
            whole["classes"],
            whole.get("logits"),
            whole["in_range"].astype(bool),
            len(starts),
            self._requests - before[1],
            self._computing - before[0],
            time.monotonic() - began,
            self.traffic,
        )

    def end(self) -> None:
        """Tell the server that the session is over; then its secret is forgotten here too."""
        if self._session != NO_SESSION:
            try:
                self._exchange(Frame(Kind.GOODBYE, self._session))
            except Refusal as refusal:
                if refusal.code != "unknown_session":
                    raise
            self._session = NO_SESSION
        if self._state is not None:
            self._state.clear()

    def close(self) -> None:
        """Hang up; the session stays, here and at the server."""
        self._line.close()

    def _prepared(self, side: ClientSide, rows: np.ndarray) -> np.ndarray:
        return side.prepared(rows) if self._stored else rows

    def _first_query(self, rows: np.ndarray) -> int:
        """The number of the next query, which no rows but these may ever have.

        Raises:
            ConfigError: they are not those of the state, or there are none.
            RunError: a query before did not come to its end.
        """
        if not len(rows):
            raise ConfigError("input", 0, "holds no rows", "one row or more")
        if self._state is None:
            if self._stuck:
                raise RunError("a query was cut short; its session can ask nothing else")
            return self._query
        if digest_of(rows, self._stored) != self._rows:
            raise ConfigError("rows", None, "are not those that the session was begun for")
        return 0

    def _take_up(self) -> None:
        if self._state is None:
            raise ConfigError("resume", True, "takes a folder that holds a session", "--state DIR")
        facts = self._state.facts()
        fix = "what the session was begun with, or begin another in another folder"
        if facts.rows != self._rows:
            raise ConfigError("input", None, "is not what the session was begun for", fix)
        if facts.pin != self._pin:
            raise ConfigError("trust", self._pin, "is not the session's server", fix)
        self._session, self._secret, self._welcome = facts.session, facts.secret, facts.welcome

    def _begin(self) -> None:
        body = pack_facts({"agent": "hansa"})
        hello = Frame(Kind.HELLO, self._session, body=body)
        facts = self._welcomed(self._line.exchange(hello, self._most))
        began = time.thread_time()
        side = self._opened(facts["outline"], facts["scheme"], facts["mask_seed"], self._secret)
        self._computing += time.thread_time() - began
        self._limit = max(LARGEST_FACTS, side.largest_reply)
        self._drive(side.open(), OPENING)
        self._side = side

    def _welcomed(self, frame: Frame) -> dict[str, Any]:
        """What is served, which in one session stays what it was.

        Raises:
            WireError: it is another: the same secret must not meet it.
        """
        kinds: dict[str, Any] = {"outline": bytes, "scheme": bytes, "mask_seed": bytes}
        facts = unpack_facts(frame.body, **kinds, queries_left=int)
        parts = [facts[name] for name in kinds]
        lengths = repr([len(part) for part in parts]).encode()
        welcome = hashlib.sha256(lengths + b"".join(parts)).digest()
        if self._welcome and welcome != self._welcome:
            raise WireError("the server serves something else than when the session began")
        self.queries_left = facts["queries_left"]
        if self._session == NO_SESSION:
            if frame.session == NO_SESSION:
                raise WireError("the server gives the session no name")
            self._session, self._welcome = frame.session, welcome
            if self._state is not None:
                self._state.begin(
                    ClientFacts(frame.session, self._secret, self._pin, welcome, self._rows)
                )
        return facts

    def _drive(self, steps: Generator[bytes, bytes, Any], query: int) -> Any:
        """Carry a query's requests and replies until it is through."""
        kept = self._state.replies(query) if self._state is not None else []
        step, reply = 0, None
        while True:
            began = time.thread_time()
            try:
                request = steps.send(reply) if reply is not None else next(steps)
            except StopIteration as end:
                return end.value
            finally:
                self._computing += time.thread_time() - began
            if step < len(kept):
                reply = kept[step]
            else:
                answer = self._exchange(Frame(Kind.REQUEST, self._session, query, step, request))
                if self._state is not None:
                    self._state.keep_reply(answer)
                reply = answer.body
                self._requests += 1
            step += 1

    def _exchange(self, frame: Frame) -> Frame:
        def greet(exchange: Callable[[Frame], Frame]) -> None:
            hello = Frame(Kind.HELLO, self._session, body=pack_facts({"agent": "hansa"}))
            self._welcomed(exchange(hello))

        return self._line.exchange(frame, self._most, greet)

    def _most(self, kind: Kind) -> int:
        if kind is Kind.REPLY:
            return self._limit
        return LARGEST_FACTS if kind in (Kind.WELCOME, Kind.REFUSAL) else 0

    def _arrays(self, answers: Any, rows: int) -> dict[str, np.ndarray]:
        fine = np.broadcast_to(np.asarray(answers.in_range, np.int64), (rows,))
        arrays = {"classes": np.asarray(answers.classes, np.int64), "in_range": fine}
        if answers.logits is not None:
            arrays["logits"] = np.asarray(answers.logits, np.int64)
        return arrays


@contextmanager
def asking(
    address: tuple[str, int], pin: str, open_session: Opened, **more: Any
) -> Iterator[PrivateClient]:
    """A client whose session ends with the block; where an error leaves it, the session stays."""
    client = PrivateClient(address, pin, open_session, **more)
    try:
        yield client
        client.end()
    finally:
        client.close()
