"""All connections of a site: made, told apart, kept alive and ended, on one thread's event loop."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from hansa.base.errors import ConfigError
from hansa.engine.links import speech
from hansa.engine.links.admission import Admission
from hansa.engine.links.assembly import Message
from hansa.engine.links.channel import channel_of
from hansa.engine.links.circuits import Circuits
from hansa.engine.links.connection import Connection
from hansa.engine.links.guard import Guards
from hansa.engine.links.hello import (
    NONCE_BYTES,
    Hello,
    digests,
    disagreement,
    pack_facts,
    short,
)
from hansa.engine.links.limits import LinkSettings
from hansa.engine.links.link_filter import Filter
from hansa.engine.links.overhead import Overhead
from hansa.engine.links.pair import Pair
from hansa.engine.links.pipe import SocketPipe
from hansa.engine.links.reaching import Reaching
from hansa.engine.links.session import Outgoing
from hansa.engine.links.shaped import LoopClock
from hansa.engine.links.speech import Bye, Say
from hansa.engine.links.ticket import Peer, Ticket

_TICK, _CALM_TICK = 0.1, 0.25  # seconds between two looks at what is due; where no link is missing
_ACK_SECONDS = 0.01
_PATIENCE = 6  # silences after which a question is answered or the connection broken
_SPARE = 64  # connections that may be about to prove themselves, beside one or two a peer


class Switchboard:
    """The connections of a site. All of it runs on the event loop's thread.

    Args:
        ticket: the site's.
        settings: limits.
        on_message: is given every message: whose, its kind, its parts.
        on_change: is called when the state of a peer is another.
        on_done: is told of a peer's bytes that need not be kept any longer.
        notice: is given lines that people should see.
        on_tick: is called now and then.
        shaping: gives for a site's number the filter of the link to it, if it has one.
    """

    def __init__(
        self,
        ticket: Ticket,
        settings: LinkSettings,
        on_message: Callable[[int, int, list[Any]], None],
        on_change: Callable[[], None],
        on_done: Callable[[int, int], None],
        notice: Callable[[str], None],
        on_tick: Callable[[], None],
        shaping: Callable[[int], Filter | None] | None = None,
    ) -> None:
        self.ticket, self.settings = ticket, settings
        self._on_message, self._on_change, self._notice = on_message, on_change, notice
        self._on_done, self._on_tick = on_done, on_tick
        self.loop: asyncio.AbstractEventLoop = asyncio.SelectorEventLoop()
        self.overhead = Overhead()
        self._start = os.urandom(NONCE_BYTES)
        self._config = digests(ticket.config)
        self._reaching = Reaching(
            ticket, settings, self.loop, self, on_change, random.Random(self._start)
        )
        self._peers, self.pairs = self._reaching.peers, self._reaching.pairs
        for peer in ticket.peers:
            self._reaching.add(peer, self._pair(peer.site))
        self._circuits = Circuits(
            ticket,
            settings,
            self._line,
            lambda site, dials: self._connection(site, dialled=dials),
            self._reaching.provable,
        )
        self._connections: set[Connection] = set()
        self._admission = Admission(settings.newcomers, _SPARE + 4 * len(self._peers))
        self._facts: dict[str, Any] = {}
        self._news = 0  # how often they changed
        self._shaping, self._filters = shaping, dict[int, Filter | None]()
        self._clock = LoopClock(self.loop)
        self._ear: socket.socket | None = None
        self._ticked = self.now()
        self._owing: set[int] = set()
        self._pushed: set[int] = set()
        self._ending = False
        self._guards: Guards | None = None

    def _pair(self, site: int) -> Pair:
        return Pair(self.ticket.site, site, self.settings, lambda done: self._on_done(site, done))

    def _line(self, site: int) -> Connection | None:
        """The connection with a peer that is in use."""
        pair = self.pairs.get(site)
        line = pair.line if pair is not None and pair.flows else None
        return line if isinstance(line, Connection) else None

    def now(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    # What the site wants

    def prepare(self) -> None:
        """Make ready what this site proves beside its key.

        Raises:
            ConfigError: it can prove nothing here.
        """
        if (vouching := self.ticket.vouching()) is not None:
            self._guards = Guards(vouching, self.loop)

    def begin(self, ear: socket.socket | None) -> None:
        """Listen, if there is a socket for it, and look after the connections from now on."""
        self._ear = ear
        self._clock.begin()
        if ear is not None:
            self.loop.add_reader(ear, self._accept)
        self._tick()

    def meet(self, peers: Iterable[Peer]) -> None:
        """Learn where peers are, and their keys: where one has another now, the old is void."""
        for peer in peers:
            if peer.site == self.ticket.site:
                continue
            known = self._peers.get(peer.site)
            if known is not None and not peer.key:
                peer = replace(peer, key=known.key)
            ticket = replace(self.ticket, peers=tuple({**self._peers, peer.site: peer}.values()))
            try:
                channel_of(ticket, False)
            except ConfigError as error:  # such as a key that another has
                self._notice(str(error))
                continue
            self.ticket = ticket
            if known is None:
                self._reaching.add(peer, self._pair(peer.site))
            elif known.key not in ("", peer.key):
                self.cut(peer.site)
            self._reaching.meet(peer)

    def push(self, site: int, message: Outgoing) -> None:
        """Send a message with the next :meth:`pump`, or when it can be."""
        self.pairs[site].session.push(message)
        self._pushed.add(site)

    def pump(self) -> None:
        """Write what was pushed."""
        pushed, self._pushed = self._pushed, set()
        for site in pushed:
            line = self.pairs[site].line
            if isinstance(line, Connection):
                line.pump()
            else:
                self._reaching.consider(site)

    def grant(self, site: int, nbytes: int) -> None:
        """A peer may send so many bytes more."""
        self.pairs[site].session.grant(nbytes)
        self.pairs[site].acknowledge(soon=True)
        self._owe(self.pairs[site])

    def forget(self, site: int) -> None:
        """Drop what waits for a peer and was not begun."""
        self._on_done(site, self.pairs[site].session.forget())

    def tell(self, facts: Mapping[str, Any]) -> None:
        """Tell all peers of something."""
        self._facts.update(facts)
        self._news += 1
        for pair in self.pairs.values():
            if pair.flows and isinstance(pair.line, Connection):
                self._ping(pair.line)

    def cut(self, site: int) -> None:
        """Break the connection with a peer, as a network may."""
        line = self.pairs[site].line
        if isinstance(line, Connection):
            line.fail("it was cut", gently=False)

    def attest(self) -> None:
        """Have peers and this site prove anew what they prove beside keys."""
        for pair in self.pairs.values():
            line = self._line(pair.other)
            if line is not None and line.guard is not None:
                line.guard.begin()

    def end(self) -> None:
        """Say so to all and close every connection."""
        self._ending = True
        self._reaching.end()
        if self._ear is not None:
            self.loop.remove_reader(self._ear)
            self._ear.close()
            self._ear = None
        for connection in list(self._connections):
            connection.end(speech.bye(Bye.OVER), "")

    # Reaching for peers

    def cut_off(self, site: int) -> bool:
        """Whether the shaped link to a peer carries nothing at the moment."""
        link = self._filters.get(site)
        return link is not None and link.down(self._clock.now()) is not None

    def _filter(self, site: int) -> Filter | None:
        """What the link to a peer is like: asked for when it is met, the same from then on."""
        if self._shaping is not None and site not in self._filters:
            self._filters[site] = self._shaping(site)
        return self._filters.get(site)

    def reached(self, site: int, sock: socket.socket) -> None:
        """A socket is connected to where a peer should be."""
        connection = self._connection(site, dialled=True)
        connection.over(SocketPipe(self.loop, sock, connection))

    def open_circuit(self, site: int) -> bool:
        """Reach for a peer through the first relay that is connected."""
        self._reaching.under_way.add(site)
        opened = self._circuits.open(site)
        if not opened:
            self._reaching.under_way.discard(site)
        return opened

    def relayed(self, connection: Connection, body: memoryview) -> int:
        """A frame for a relay or out of one: bytes of it that are another connection's.

        Raises:
            WireError: it cannot come.
        """
        return self._circuits.take(connection, body)

    def _connection(self, site: int | None, *, dialled: bool, host: str = "") -> Connection:
        """A new connection. ``site``: who has to be there; None: any peer."""
        expected = None if site is None else self._peers[site]
        channel = channel_of(self.ticket, dialled, expected)
        connection = Connection(self, channel, dialled=dialled, longest=self.settings.hello)
        connection.expected, connection.host = site, host
        self._connections.add(connection)
        return connection

    # Being reached for

    def _accept(self) -> None:
        assert self._ear is not None
        for _ in range(64):
            try:
                sock, place = self._ear.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # such as too many open files
                self._notice(f"no connection can be accepted ({error.strerror or error})")
                self.loop.remove_reader(self._ear)
                self.loop.call_later(1.0, self._listen_again)
                return
            host = str(place[0]) if place else ""
            waiting = sum(1 for c in self._connections if c.pair is None and not c.dialled)
            crowded = waiting >= _SPARE + 2 * len(self._peers)
            if crowded or not self._admission.admit(host, self.now()):
                self._notice(f"connections from {host} come too fast; some are not heard")
                sock.close()
                continue
            connection = self._connection(None, dialled=False, host=host)
            connection.over(SocketPipe(self.loop, sock, connection))

    def _listen_again(self) -> None:
        if self._ear is not None:
            self.loop.add_reader(self._ear, self._accept)

    # What connections say

    def proven(self, connection: Connection) -> None:
        """Both ends have shown who they are: where evidence is asked for, it comes next."""
        if self._guards is None or self.ticket.key is None:
            self.ready(connection)
        else:
            self._guards.over(connection, self.ticket.key, self._peers.values())

    def ready(self, connection: Connection) -> None:
        """Both ends have proved themselves; whoever dialled speaks first."""
        if connection.dialled and connection.expected is not None:
            self._greet(connection, connection.expected)

    def _greet(self, connection: Connection, site: int) -> None:
        hello = Hello(
            site=self.ticket.site,
            to=site,
            run=self.ticket.run,
            incarnation=self.ticket.incarnation,
            start=self._start,
            seen=self.pairs[site].seen,
            config=self._config,
            facts=self._facts,
        )
        connection.told = self._news
        connection.put(bytes((Say.HELLO,)) + hello.pack(), "hello")

    def greeted(self, connection: Connection, hello: Hello) -> None:
        """Believe who says that it is a peer and has proved it, or refuse."""
        reason = self._objection(connection, hello)
        if not reason and self.cut_off(hello.site):
            connection.fail("", gently=False)
            return
        if reason:
            meant = hello.site if connection.expected is None else connection.expected
            pair = self.pairs.get(meant)
            if pair is not None and self._proven(connection, pair.other):
                self._refused(pair, reason)
            else:
                self._notice(f"{self._whence(connection)}: refused: {reason}")
            connection.refuse(reason)
            return
        pair = connection.pair = self.pairs[hello.site]
        connection.share(self.overhead.of(hello.site))
        if (link := self._filter(pair.other)) is not None:
            connection.shape(link, self._clock)
        if not connection.dialled:
            self._admission.proved(connection.host)
            self._greet(connection, hello.site)
        pair.greeted(connection, hello, self.now())
        self._on_change()

    def _objection(self, connection: Connection, hello: Hello) -> str:
        if connection.expected not in (None, hello.site):
            sought, there = map(self.ticket.called, (connection.expected, hello.site))
            return f"{sought} was looked for and {there} found there"
        if hello.site not in self.pairs:
            return f"there is no other site {hello.site} in this run"
        if not self._proven(connection, hello.site):
            return f"the key is not that of {self.ticket.called(hello.site)}"
        return disagreement(self.ticket, self._config, hello) or self.pairs[hello.site].objection(
            hello, self.now()
        )

    def _proven(self, connection: Connection, site: int) -> bool:
        """Whether the other end has proved to be this site, or at least one that may be it."""
        if self.ticket.key is None:
            return bool(connection.channel.peer)
        return bool(self._peers[site].key) and connection.channel.peer == self._peers[site].key

    def _refused(self, pair: Pair, reason: str) -> None:
        pair.refused = pair.why = f"{self._peers[pair.other]}: {short(reason)}"
        self._notice(pair.refused)
        self._on_change()

    def _whence(self, connection: Connection) -> str:
        if connection.expected is not None:
            peer = self._peers[connection.expected]
            return f"{peer} at {peer.address}" if peer.address else f"{peer}, by way of a relay"
        return f"a connection from {connection.host}"

    def came(self, pair: Pair, messages: list[Message]) -> None:
        """Hand messages on."""
        for message in messages:
            self._on_message(pair.other, message.kind, message.parts)
        self._owe(pair)

    def _owe(self, pair: Pair) -> None:
        if pair.owes and pair.other not in self._owing:
            self._owing.add(pair.other)
            self.loop.call_later(_ACK_SECONDS, self._pay, pair)

    def _pay(self, pair: Pair) -> None:
        self._owing.discard(pair.other)
        pair.acknowledge(soon=False)

    def changed(self, connection: Connection) -> None:
        """There is news of a peer."""
        pair = connection.pair
        if pair is not None and pair.line is connection and pair.flows:
            self._reaching.linked(pair.other)
            connection.pump()
        self._on_change()

    def over(self, connection: Connection, why: str) -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        self._circuits.lost(connection)
        pair = connection.pair
        if pair is None:
            self.overhead.of(None).add(connection.traffic)
        known = pair.other if pair is not None else connection.expected
        if known is None:
            if why:
                self._notice(f"{self._whence(connection)}: {short(why)}")
            return
        text = f"{self._whence(connection)}: {short(why)}"
        # A relay may answer for whom it likes: what it says stops nobody.
        direct = connection.dialled and bool(self._peers[known].address)
        if connection.refused and (direct or self._proven(connection, known)):
            self._refused(self.pairs[known], why)
        if pair is not None and pair.lost(connection):
            self._lost(connection, pair, text if why else "")
        elif connection.dialled:
            self._reaching.failed(known, text if why else self.pairs[known].why)
        elif pair is None and why:
            self._notice(text)

    def _lost(self, connection: Connection, pair: Pair, why: str) -> None:
        """The connection in use has ended."""
        self._circuits.relay.lost(pair.other)
        if pair.gone:
            pair.why = f"{self._peers[pair.other]} has ended"
            self._reaching.left(pair.other)
        else:
            pair.why = why or pair.why
            self._reaching.broke(pair.other, useful=connection.useful)
        if connection.rests:
            self._reaching.resting.add(pair.other)
        if not self._ending:
            self._on_change()

    # Time

    def _ping(self, connection: Connection) -> None:
        connection.asked, connection.told = connection.asked or self.now(), self._news
        connection.put(bytes((Say.PING,)) + pack_facts(self._facts), "ping")

    def _tick(self) -> None:
        """Look after what is due. Where this site itself stood still, its peers did not."""
        now = self.now()
        stood = max(now - self._ticked - 2 * _CALM_TICK, 0.0)
        self._ticked = now
        for connection in list(self._connections):
            self._look_after(connection, now, stood)
        self._on_tick()
        self._rest(now)
        missing = self._reaching.consider_all()
        if not self._ending:
            self.loop.call_later(_TICK if missing else _CALM_TICK, self._tick)

    def _look_after(self, connection: Connection, now: float, stood: float) -> None:
        settings = self.settings
        connection.heard, connection.born = connection.heard + stood, connection.born + stood
        connection.asked += stood if connection.asked else 0.0
        pair = connection.pair
        guard = connection.guard
        if guard is not None and (late := guard.look(now, stood)):
            connection.fail(late)
            return
        if pair is None or pair.line is not connection or not pair.flows:
            patience = settings.handshake + (guard.seconds if guard is not None else 0.0)
            if now - connection.born > patience:
                late = "did not say who it is" if pair is None else "did not go on"
                connection.fail(f"{late} in {patience:g} s")
            return
        if now - connection.heard > settings.silence:
            connection.fail(f"silent for {settings.silence:g} s", gently=False)
        elif connection.asked and now - connection.asked > _PATIENCE * settings.silence:
            connection.fail("does not answer", gently=False)
        elif now - connection.said > settings.ping or connection.told != self._news:
            self._ping(connection)

    def _rest(self, now: float) -> None:
        """Close links that were not used lately, where there are too many."""
        lines = [pair for pair in self.pairs.values() if pair.flows]
        spare = len(lines) - self.settings.max
        if spare <= 0 or not self.ticket.listen:
            return
        idle = [
            pair
            for pair in lines
            if pair.resting
            and now - pair.used > self.settings.idle
            and self._peers[pair.other].address
        ]
        for pair in sorted(idle, key=lambda pair: pair.used)[:spare]:
            if isinstance(pair.line, Connection):
                pair.line.rests = True
                pair.line.end(speech.bye(Bye.IDLE), "")

    def close(self) -> None:
        """Let go of the loop, which must have stopped."""
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks))
        for connection in list(self._connections):
            connection.fail("", gently=False)
        if self._guards is not None:
            self._guards.close()
        self.loop.close()
