"""The server without its sockets: who may ask what, in which order, and what comes again.

A request is accepted once it was answered, and kept before the answer leaves. So a server that is
killed at any moment either knows a request or was not heard to know it, and a client that asks
again gets the same bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hansa.base.errors import ConfigError, HansaError
from hansa.infer.private.protocol.allowances import Allowances, Quotas, check_budget
from hansa.infer.private.protocol.codes import CHEATING, Refusal
from hansa.infer.private.protocol.frames import NO_SESSION, OPENING, Frame, Kind, pack_facts
from hansa.infer.private.protocol.owned_files import own_folder
from hansa.infer.private.protocol.pins import ANYONE
from hansa.infer.private.protocol.service import ServerSide, Service
from hansa.infer.private.protocol.session_files import SessionFacts, SessionFiles

_SEED_BYTES = 32
_GREETED_S = 120.0


@dataclass
class Seat:
    """A session at the desk.

    Attributes:
        query, step: what is expected next is ``step`` of ``query``, or the first of the one after
            where the query is through.
        digest: of the request accepted last.
        reply: to it, while it is remembered.
        held: bytes of requests that the query keeps.
        side: the session proper, while it is in memory.
        used: when it was last asked, on the desk's clock.
    """

    facts: SessionFacts
    query: int = OPENING
    step: int = 0
    digest: bytes = b""
    reply: bytes | None = None
    held: int = 0
    side: ServerSide | None = None
    used: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put_away(self) -> None:
        """Free what can be had again from the disk."""
        if self.side is not None:
            self.side.close()
        self.side = self.reply = None


@dataclass
class Counts:
    """What was done since the start. Seconds are of the threads that answer."""

    sessions: int = 0
    queries: int = 0
    requests: int = 0
    repeats: int = 0
    refusals: int = 0
    compute_s: float = 0.0


class Desk:
    """Sessions of one service; any number of threads may call it.

    Args:
        folder: of the state; only this process may use it.
        live: sessions kept in memory at most; others are taken up from the disk when asked.
        clock: seconds that never go back.

    Raises:
        ConfigError: budgets are kept by certificate, and clients have none; or one query would
            take a whole one.
    """

    def __init__(
        self,
        service: Service,
        folder: Path,
        quotas: Quotas = Quotas(),
        live: int = 8,
        identified: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if service.budgeted and not identified:
            problem = "counts what each client was told, and clients show no certificates"
            raise ConfigError("mode", "budget", problem, "--clients DIR, a folder of theirs")
        if service.budgeted:
            check_budget(service.equations, quotas.budget)
        self.service, self.quotas, self.counts = service, quotas, Counts()
        self._live, self._clock = max(1, live), clock
        own_folder(folder)
        self._files = SessionFiles(folder / "sessions", service.largest_request)
        self._allowances = Allowances(folder / "clients", service, quotas)
        self._lock, self._counting = threading.Lock(), threading.Lock()
        self._seats: dict[bytes, Seat] = {}
        for facts, used in self._files.all():
            idle = max(0.0, time.time() - used)
            self._seats[facts.session] = self._seat(facts, clock() - idle)

    def dispatch(self, identity: str, frame: Frame) -> Frame:
        """The answer to a frame of a client, which may be a refusal."""
        try:
            if frame.kind is Kind.HELLO:
                return self._greet(identity, frame)
            if frame.kind is Kind.REQUEST:
                return self._answer(identity, frame)
            if frame.kind is Kind.GOODBYE:
                return self._leave(identity, frame)
            raise Refusal("malformed", "clients do not send such frames")
        except Refusal as refusal:
            self._count(refusals=1)
            return refusal.frame(frame)

    def expire(self) -> int:
        """Forget the sessions that nobody used for too long; how many."""
        now = self._clock()
        with self._lock:
            old = [seat for seat in self._seats.values() if now - seat.used > self._idle(seat)]
            gone = [seat for seat in old if seat.lock.acquire(blocking=False)]
            for seat in gone:
                self._drop(seat)
        return len(gone)

    def _count(self, **more: float) -> None:
        with self._counting:
            for name, value in more.items():
                setattr(self.counts, name, getattr(self.counts, name) + value)

    def _greet(self, identity: str, frame: Frame) -> Frame:
        if frame.session == NO_SESSION:
            seat = self._begin(identity)
        else:
            with self._held(identity, frame.session) as seat:
                if seat.facts.program != self.service.digest:
                    raise Refusal("other_program")
        body = pack_facts(
            {
                "outline": self.service.outline,
                "scheme": self.service.scheme,
                "mask_seed": seat.facts.mask_seed,
                "queries_left": self._allowances.left(identity),
                "idle_s": float(self.quotas.idle_s),
            }
        )
        return Frame(Kind.WELCOME, seat.facts.session, body=body)

    def _begin(self, identity: str) -> Seat:
        self.expire()
        seed, secret = secrets.token_bytes(_SEED_BYTES), secrets.token_bytes(_SEED_BYTES)
        name = secrets.token_bytes(len(NO_SESSION))
        facts = SessionFacts(name, identity, self.service.digest, seed, secret)
        with self._lock:
            own = sum(seat.facts.identity == identity for seat in self._seats.values())
            if len(self._seats) >= self.quotas.sessions:
                raise Refusal("busy", f"{self.quotas.sessions} sessions are all that are held")
            # Nobody is to shut others out who are anyone like himself.
            if own >= self.quotas.client_sessions and identity != ANYONE:
                text = f"{self.quotas.client_sessions} sessions are all that a client has"
                raise Refusal("too_many_sessions", text)
            self._files.make(facts)
            self._seats[name] = seat = Seat(facts, used=self._clock())
        self._count(sessions=1)
        return seat

    def _answer(self, identity: str, frame: Frame) -> Frame:
        with self._held(identity, frame.session) as seat:
            if seat.facts.program != self.service.digest:
                raise Refusal("other_program")
            self._count(requests=1)
            digest = hashlib.sha256(frame.body).digest()
            if self._is_repeat(seat, frame):
                if not hmac.compare_digest(digest, seat.digest):
                    raise Refusal("changed")
                self._count(repeats=1)
                reply = self._again(seat, frame)
            else:
                self._in_order(seat, frame)
                reply = self._next(seat, frame, digest)
            return Frame(Kind.REPLY, frame.session, frame.query, frame.step, reply)

    def _is_repeat(self, seat: Seat, frame: Frame) -> bool:
        return bool(seat.digest) and (frame.query, frame.step) == (seat.query, seat.step - 1)

    def _in_order(self, seat: Seat, frame: Frame) -> None:
        through = seat.step >= self.service.steps(seat.query)
        wanted = (seat.query + 1, 0) if through else (seat.query, seat.step)
        asked = (frame.query, frame.step)
        if asked == wanted and frame.step < self.service.steps(frame.query):
            return
        code = "replayed" if asked < wanted else "out_of_order"
        raise Refusal(code, f"step {wanted[1]} of query {wanted[0]} is the next")

    def _next(self, seat: Seat, frame: Frame, digest: bytes) -> bytes:
        begins = frame.query != seat.query
        held = len(frame.body) + (0 if begins else seat.held)
        if held > self.quotas.held_bytes:
            text = f"{self.quotas.held_bytes} bytes are all that a query may leave here"
            raise Refusal("too_many_bytes", text)
        if frame.query != OPENING and frame.step == 0:
            self._allowances.take(seat.facts.identity, seat.facts.session.hex(), frame.query)
        side = self._side(seat)
        reply = self._ask(seat, side, frame)
        try:
            self._files.accept(frame)
        except BaseException:
            seat.put_away()  # it is one step ahead of what is known
            raise
        if frame.query != OPENING and frame.step == 0:
            self._count(queries=1)
        seat.query, seat.step, seat.held = frame.query, frame.step + 1, held
        seat.digest, seat.reply = digest, reply
        return reply

    def _ask(self, seat: Seat, side: ServerSide, frame: Frame) -> bytes:
        began = time.thread_time()
        try:
            return side.answer(frame.query, frame.step, frame.body)
        except HansaError as error:
            seat.put_away()  # it may have got half way
            code = getattr(error, "code", None)
            if code == CHEATING:
                with self._lock:
                    self._drop(seat)
            raise Refusal(code if isinstance(code, str) else "rejected", str(error)) from error
        except BaseException:
            seat.put_away()
            raise
        finally:
            self._count(compute_s=time.thread_time() - began)

    def _again(self, seat: Seat, frame: Frame) -> bytes:
        if seat.reply is None:
            seat.put_away()
            seat.side = self._restored(seat, before=frame)
            seat.reply = self._ask(seat, seat.side, frame)
        return seat.reply

    def _side(self, seat: Seat) -> ServerSide:
        """The session proper; the one in memory that was used longest ago makes room for it."""
        if seat.side is None:
            seat.side = self._restored(seat)
            with self._lock:
                live = [s for s in self._seats.values() if s.side is not None and s is not seat]
                for other in sorted(live, key=lambda s: s.used)[
                    : max(0, len(live) + 1 - self._live)
                ]:
                    if other.lock.acquire(blocking=False):
                        other.put_away()
                        other.lock.release()
        return seat.side

    def _restored(self, seat: Seat, before: Frame | None = None) -> ServerSide:
        """A session from what is on the disk, as it was before a frame."""
        facts = seat.facts
        began = time.thread_time()
        side = self.service.session(facts.mask_seed, facts.secret)
        frames = [*self._files.opening(facts.session), *self._files.query(facts.session)]
        if before is not None:
            frames = [f for f in frames if (f.query, f.step) < (before.query, before.step)]
        for query in dict.fromkeys(frame.query for frame in frames):
            side.restore(query, [frame.body for frame in frames if frame.query == query])
        self._count(compute_s=time.thread_time() - began)
        return side

    def _seat(self, facts: SessionFacts, used: float) -> Seat:
        """Where a session stands, from its files."""
        opening, query = self._files.opening(facts.session), self._files.query(facts.session)
        frames = query or opening
        if not frames:
            return Seat(facts, used=used)
        last, held = frames[-1], sum(len(frame.body) for frame in frames)
        digest = hashlib.sha256(last.body).digest()
        return Seat(facts, last.query, last.step + 1, digest, None, held, None, used)

    def _idle(self, seat: Seat) -> float:
        """Seconds after which it expires; soon, where a session was only greeted."""
        return self.quotas.idle_s if seat.digest else min(self.quotas.idle_s, _GREETED_S)

    def _leave(self, identity: str, frame: Frame) -> Frame:
        with self._held(identity, frame.session) as seat:
            self._drop(seat)
        return Frame(Kind.GOODBYE, frame.session)

    def _drop(self, seat: Seat) -> None:
        seat.put_away()
        self._seats.pop(seat.facts.session, None)
        self._files.forget(seat.facts.session)
        self._allowances.close(seat.facts.identity, seat.facts.session.hex())

    @contextmanager
    def _held(self, identity: str, session: bytes) -> Iterator[Seat]:
        """A client's session, to one thread at a time."""
        seat = self._seats.get(session)
        if seat is None:
            raise Refusal("unknown_session")
        if not hmac.compare_digest(seat.facts.identity.encode(), identity.encode()):
            raise Refusal("foreign_session")
        if not seat.lock.acquire(blocking=False):
            raise Refusal("busy", "another request of the session is under way")
        try:
            if self._clock() - seat.used > self._idle(seat):
                with self._lock:
                    self._drop(seat)
                raise Refusal("unknown_session", "it has expired")
            seat.used = self._clock()
            yield seat
        finally:
            seat.lock.release()
