"""What a site says to the others of a run, over links that outlive connections.

A thread of its own moves the bytes, so that a site that trains still hears and is heard. A message
is delivered once, in order and whole, however often connections break in between, as long as
neither site is started anew. Nothing here waits for a peer but :meth:`Links.flush` and
:meth:`Links.close`, and those no longer than they are told.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hansa.base.errors import RunError
from hansa.engine.links.addresses import joined, listening
from hansa.engine.links.assembly import CONTROL, DATA
from hansa.engine.links.channel import channel_of
from hansa.engine.links.framing import Buffer
from hansa.engine.links.hello import MOST_FACTS, pack_facts
from hansa.engine.links.limits import LinkSettings
from hansa.engine.links.overhead import Overhead
from hansa.engine.links.pair import PeerState
from hansa.engine.links.session import Outgoing
from hansa.engine.links.switchboard import Switchboard
from hansa.engine.links.ticket import Peer, Ticket

__all__ = ["CONTROL", "DATA", "Links", "PeerState"]

_MOST_NOTICES = 200
_MOST_FACTS = 4096  # bytes
_GRANT_PART = 16  # a grant is passed on once it is this part of what a peer may be ahead
_LAST_WORDS = 0.1  # seconds for a last frame to leave
_BACK = 3.0  # seconds that links which end give a peer to come, or to come back
_LOOK = 0.1  # seconds between two looks at who is there


class Links:
    """A site's links to the others.

    Args:
        ticket: who takes part, and how they believe each other.
        settings: limits; None: the defaults.
        on_message: is called with the site that a message is from (proven), its kind and its parts.
            It runs on the thread that moves the bytes and must be short. What it is given counts
            against what the peer may send, until :meth:`grant` gives it back.
        on_change: is called when the state of a peer may be another, on the same thread.
        shaping: gives for a site's number the filter of the link to it, or None.
    """

    def __init__(
        self,
        ticket: Ticket,
        settings: LinkSettings | None,
        on_message: Callable[[int, int, list[Any]], None],
        on_change: Callable[[], None],
        shaping: Callable[[int], Any] | None = None,
    ) -> None:
        self.ticket, self.settings = ticket, settings or LinkSettings()
        self._lock = threading.Condition()
        self._queued: dict[int, int] = {peer.site: 0 for peer in ticket.peers}
        self._grants: dict[int, int] = {}
        self._inbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._awake = False
        self._told: dict[str, Any] = {}
        self._notices: deque[str] = deque(maxlen=_MOST_NOTICES)
        self._noticed: deque[str] = deque(maxlen=_MOST_NOTICES)  # lately
        self._problem: BaseException | None = None
        self._on_change = on_change
        self._board = Switchboard(
            ticket,
            self.settings,
            on_message,
            on_change,
            self._done,
            self._notice,
            self._drain,
            shaping,
        )
        self._board.loop.set_exception_handler(self._break)
        self._thread = threading.Thread(target=self._run, name="hansa-links", daemon=True)
        self._over, self._began = False, time.monotonic()

    @property
    def overhead(self) -> Overhead:
        """What the links carried, by peer, direction and purpose."""
        return self._board.overhead

    def start(self, ear: socket.socket | None = None) -> str:
        """Listen and begin; returns the address at which this site is reached.

        Empty: it only dials.

        Args:
            ear: listens already, where the ticket says.

        Raises:
            ConfigError: it cannot listen there, such as where the port is in use, or keys of the
                ticket cannot tell its sites apart.
        """
        channel_of(self.ticket, False)  # here its problems are told, and what it needs is imported
        self._board.prepare()
        if ear is None and self.ticket.listen:
            ear = listening(self.ticket.listen)
        address = joined(*ear.getsockname()[:2]) if ear is not None else ""
        self._began = time.monotonic()
        self._board.loop.call_soon(self._board.begin, ear)
        self._thread.start()
        return address

    def _run(self) -> None:
        self._board.loop.run_forever()
        self._board.close()

    def _break(self, loop: Any, context: dict[str, Any]) -> None:
        """Something failed on the thread that must not: whoever uses the links is told."""
        with self._lock:
            self._problem = context.get("exception") or RuntimeError(str(context["message"]))
            self._lock.notify_all()
        self._on_change()

    def meet(self, peers: Iterable[Peer]) -> None:
        """Learn where peers are, and reach for those that are due."""
        peers = tuple(peers)
        with self._lock:
            for peer in peers:
                self._queued.setdefault(peer.site, 0)
        self._call(self._board.meet, peers)

    def send(self, site: int, kind: int, parts: Sequence[Buffer]) -> None:
        """Send a message of 1 to 4,096 parts, which must not change any more. Never blocks.

        Args:
            kind: ``DATA`` or ``CONTROL``.

        Raises:
            RunError: the links have ended.
        """
        message = Outgoing(kind, parts)
        with self._lock:
            self._queued[site] += message.size
        self._call(self._board.push, site, message)

    def queued(self, site: int) -> int:
        """Bytes that were sent to a peer and that it has not acknowledged."""
        return self._queued[site]

    def grant(self, site: int, nbytes: int) -> None:
        """A peer may send so many bytes more: of parts that were handed over and made use of."""
        with self._lock:
            self._grants[site] = self._grants.get(site, 0) + nbytes
            if self._grants[site] < self.settings.ahead // _GRANT_PART:
                return
            nbytes = self._grants.pop(site)
        self._call(self._board.grant, site, nbytes)

    def forget(self, site: int) -> None:
        """Drop what waits for a peer that was given up. What was begun still goes to it."""
        self._call(self._board.forget, site)

    def tell(self, **facts: Any) -> None:
        """Small plain facts that all peers hear of, and those that come later.

        Raises:
            ValueError: they are not small.
        """
        told = {**self._told, **facts}
        if len(pack_facts(told)) > _MOST_FACTS or len(told) > MOST_FACTS:
            raise ValueError(f"facts of more than {_MOST_FACTS} bytes, or more than {MOST_FACTS}")
        self._told = told
        self._call(self._board.tell, facts)

    def state(self, site: int) -> PeerState:
        """What is known of a peer now."""
        return self._board.pairs[site].state()

    def notices(self) -> list[str]:
        """Lines that a person should see, the latest of them; one that comes again, once."""
        with self._lock:
            lines = list(self._notices)
            self._notices.clear()
        return lines

    def cut(self, site: int) -> None:
        """Break the connection with a peer, as a network may; it is made anew."""
        self._call(self._board.cut, site)

    def attest(self) -> None:
        """Have all connections prove anew what they prove beside keys, if that is anything."""
        self._call(self._board.attest)

    def flush(self, timeout: float) -> bool:
        """Wait until all that was sent is acknowledged; returns whether it is.

        Args:
            timeout: s.
        """
        until = time.monotonic() + timeout
        with self._lock:
            while any(self._queued.values()) and self._problem is None:
                left = until - time.monotonic()
                if left <= 0:
                    return False
                self._lock.wait(left)
            return self._problem is None

    def _farewell(self, timeout: float) -> None:
        """Wait until all that was sent is acknowledged by those who are there.

        A peer that lost its link may come back for a moment, and one that never came has the same
        from the start of the links. Who has ended or is refused takes nothing any more.
        """
        now = time.monotonic()
        until, back = now + timeout, now + _BACK

        def listens(site: int) -> bool:
            if site not in self._board.pairs:
                return True  # it is about to be met
            peer = self.state(site)
            if peer.gone or peer.refused:
                return False
            return peer.connected or time.monotonic() < (back if peer.ever else self._began + _BACK)

        with self._lock:
            while self._problem is None and (left := until - time.monotonic()) > 0:
                if not any(queued and listens(site) for site, queued in self._queued.items()):
                    return
                self._lock.wait(min(left, _LOOK))

    def close(self, timeout: float = 2.0) -> None:
        """End all links: what was sent has so many seconds to arrive, then all peers are told.

        Nobody is waited for who is not there.
        """
        if self._over:
            return
        self._over = True
        if self._thread.is_alive():
            if self._problem is None:
                self._farewell(timeout)
            loop = self._board.loop
            loop.call_soon_threadsafe(self._board.end)
            loop.call_soon_threadsafe(loop.call_later, _LAST_WORDS, loop.stop)
            self._thread.join(_LAST_WORDS + 5.0)
        elif not self._thread.ident:
            self._board.close()

    # Between the threads

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        """Have something done on the thread that moves the bytes, in the order of the calls."""
        with self._lock:
            if self._problem is not None:
                raise RunError(f"the links between sites failed: {self._problem}")
            if self._over:
                raise RunError("the links between sites have ended")
            self._inbox.append((function, args))
            wake, self._awake = not self._awake, True
        if wake:
            self._board.loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        """Do what was called for. Also now and then unasked: small grants wait until then."""
        with self._lock:
            calls, self._inbox = self._inbox, deque()
            grants, self._grants = self._grants, {}
            self._awake = False
        for site, nbytes in grants.items():
            self._board.grant(site, nbytes)
        for function, args in calls:
            function(*args)
        self._board.pump()

    def _done(self, site: int, nbytes: int) -> None:
        if nbytes:
            with self._lock:
                self._queued[site] -= nbytes
                if not self._queued[site]:
                    self._lock.notify_all()

    def _notice(self, line: str) -> None:
        with self._lock:
            if line not in self._noticed:
                self._noticed.append(line)
                self._notices.append(line)
