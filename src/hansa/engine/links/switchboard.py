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

from hansa.base.errors import ConfigError, RunError
from hansa.engine.links import speech
from hansa.engine.links.addresses import reach
from hansa.engine.links.admission import Admission
from hansa.engine.links.assembly import Message
from hansa.engine.links.channel import channel_of
from hansa.engine.links.connection import Connection
from hansa.engine.links.hello import (
    NONCE_BYTES,
    Hello,
    digests,
    disagreement,
    pack_facts,
    short,
)
from hansa.engine.links.limits import LinkSettings
from hansa.engine.links.overhead import Overhead
from hansa.engine.links.pair import Pair
from hansa.engine.links.pipe import SocketPipe
from hansa.engine.links.retries import Retries
from hansa.engine.links.session import Outgoing
from hansa.engine.links.speech import Bye, Say
from hansa.engine.links.ticket import Peer, Ticket

_TICK = 0.1  # seconds between two looks at what is due
_GRACE = 0.5  # seconds that the higher of two sites leaves it to the lower to reach for it
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
    ) -> None:
        self.ticket, self.settings = ticket, settings
        self._on_message, self._on_change, self._notice = on_message, on_change, notice
        self._on_done, self._on_tick = on_done, on_tick
        self.loop: asyncio.AbstractEventLoop = asyncio.SelectorEventLoop()
        self.overhead = Overhead()
        self._peers = {peer.site: peer for peer in ticket.peers}
        self._start = os.urandom(NONCE_BYTES)
        self._config = digests(ticket.config)
        self._chance = random.Random(self._start)
        self.pairs = {site: self._pair(site) for site in self._peers}
        self._retries = {site: self._fresh_retries() for site in self._peers}
        self._wanted: dict[int, float] = {}  # since when a link is wanted that is not there
        self._dials: dict[int, asyncio.Task[None]] = {}
        self._resting: set[int] = set()  # whose link was closed as nothing needs it
        self._met: set[int] = set()
        self._connections: set[Connection] = set()
        self._admission = Admission(settings.newcomers, _SPARE + 4 * len(self._peers))
        self._facts: dict[str, Any] = {}
        self._ear: socket.socket | None = None
        self._ticked = self.now()
        self._owing: set[int] = set()
        self._ending = False

    def _pair(self, site: int) -> Pair:
        return Pair(self.ticket.site, site, self.settings, lambda done: self._on_done(site, done))

    def _fresh_retries(self) -> Retries:
        return Retries(self.settings.retry, self._chance)

    def now(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    # What the site wants

    def begin(self, ear: socket.socket | None) -> None:
        """Listen, if there is a socket for it, and look after the connections from now on."""
        self._ear = ear
        if ear is not None:
            self.loop.add_reader(ear, self._accept)
        self._tick()

    def meet(self, peers: Iterable[Peer]) -> None:
        """Learn where peers are, and their keys: where one has another now, the old is void."""
        for peer in peers:
            if peer.site == self.ticket.site:
                continue
            known = self._peers.get(peer.site)
            if known is None:
                self.pairs[peer.site] = self._pair(peer.site)
                self._retries[peer.site] = self._fresh_retries()
            elif not peer.key and known.key:
                peer = replace(peer, key=known.key)
            self._peers[peer.site] = peer
            self.ticket = replace(self.ticket, peers=tuple(self._peers.values()))
            self._met.add(peer.site)
            if known is not None and known.key not in ("", peer.key):
                self.cut(peer.site)
            if known is None or known.address != peer.address:
                self._retries[peer.site].hurry(self.now())
            self._consider(peer.site)

    def push(self, site: int, message: Outgoing) -> None:
        """Send a message, when it can be."""
        pair = self.pairs[site]
        pair.session.push(message)
        if isinstance(pair.line, Connection):
            pair.line.pump()
        else:
            self._consider(site)

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
        for pair in self.pairs.values():
            if pair.flows and isinstance(pair.line, Connection):
                self._ping(pair.line)

    def cut(self, site: int) -> None:
        """Break the connection with a peer, as a network may."""
        line = self.pairs[site].line
        if isinstance(line, Connection):
            line.fail("it was cut", gently=False)

    def end(self) -> None:
        """Say so to all and close every connection."""
        self._ending = True
        for task in self._dials.values():
            task.cancel()
        if self._ear is not None:
            self.loop.remove_reader(self._ear)
            self._ear.close()
            self._ear = None
        for connection in list(self._connections):
            connection.end(speech.bye(Bye.OVER), "")

    # Reaching for peers

    def _wants(self, site: int) -> bool:
        """Whether a link to a peer is wanted and not there."""
        pair = self.pairs[site]
        if self._ending or pair.line is not None or site not in self._met:
            return False
        if not pair.session.settled:
            return True
        return site not in self._resting and (self.settings.eager or not self.ticket.listen)

    def _consider(self, site: int) -> None:
        """Reach for a peer if it is wanted, can be reached and it is time."""
        if not self._wants(site):
            self._wanted.pop(site, None)
            return
        now = self.now()
        since = self._wanted.setdefault(site, now)
        peer, pair = self._peers[site], self.pairs[site]
        if not peer.address:
            if not pair.refused:
                pair.why = f"{peer} has no address; it has to reach for this site"
            return
        patient = bool(self.ticket.listen) and not pair.decides
        if site in self._dials or now < self._retries[site].due:
            return
        if patient and now < since + _GRACE:
            return
        self._dials[site] = self.loop.create_task(self._dial(site, peer))

    async def _dial(self, site: int, peer: Peer) -> None:
        pair = self.pairs[site]
        try:
            channel = channel_of(self.ticket, True, peer)
            sock = await reach(peer.address, self.settings.handshake)
        except (RunError, ConfigError) as error:
            self._failed(site, f"{peer}: {error}")
            return
        finally:
            self._dials.pop(site, None)
        if pair.line is not None or self._ending:
            sock.close()
            return
        self._open(channel, sock, site)

    def _open(self, channel: Any, sock: socket.socket, site: int | None, host: str = "") -> None:
        connection = Connection(
            self, channel, dialled=site is not None, longest=self.settings.hello
        )
        connection.expected, connection.host = site, host
        self._connections.add(connection)
        connection.over(SocketPipe(self.loop, sock, connection))

    def _failed(self, site: int, why: str) -> None:
        self._retries[site].failed(self.now())
        pair = self.pairs[site]
        if pair.line is None and pair.why != why:
            pair.why = why
            self._on_change()

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
            self._open(channel_of(self.ticket, False), sock, None, host)

    def _listen_again(self) -> None:
        if self._ear is not None:
            self.loop.add_reader(self._ear, self._accept)

    # What connections say

    def ready(self, connection: Connection) -> None:
        """Both ends have proved themselves; whoever dialled speaks first."""
        if connection.expected is not None:
            connection.put(self._hello(connection.expected), "hello")

    def _hello(self, site: int) -> bytes:
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
        return bytes((Say.HELLO,)) + hello.pack()

    def greeted(self, connection: Connection, hello: Hello) -> None:
        """Believe who says that it is a peer and has proved it, or refuse."""
        reason = self._objection(connection, hello)
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
        if not connection.dialled:
            self._admission.proved(connection.host)
            connection.put(self._hello(hello.site), "hello")
        pair.greeted(connection, hello, self.now())
        self._on_change()

    def _objection(self, connection: Connection, hello: Hello) -> str:
        if connection.dialled and hello.site != connection.expected:
            return f"site {connection.expected} was looked for and site {hello.site} found there"
        if hello.site not in self.pairs:
            return f"there is no other site {hello.site} in this run"
        if not self._proven(connection, hello.site):
            return f"the key is not that of site {hello.site}"
        return disagreement(self.ticket, self._config, hello) or self.pairs[hello.site].objection(
            hello, self.now()
        )

    def _proven(self, connection: Connection, site: int) -> bool:
        """Whether the other end has proved to be this site, or at least one that may be it."""
        if self.ticket.key is None:
            return bool(connection.channel.peer)
        return bool(self._peers[site].key) and connection.channel.peer == self._peers[site].key

    def _refused(self, pair: Pair, reason: str) -> None:
        pair.refused = f"{self._peers[pair.other]}: {short(reason)}"
        self._notice(pair.refused)
        self._on_change()

    def _whence(self, connection: Connection) -> str:
        if connection.expected is not None:
            peer = self._peers[connection.expected]
            return f"{peer} at {peer.address}"
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

    def relayed(self, connection: Connection, body: memoryview) -> None:
        """Nothing is relayed yet."""
        connection.fail("sends what is meant for a relay")

    def changed(self, connection: Connection) -> None:
        """There is news of a peer."""
        pair = connection.pair
        if pair is not None and pair.line is connection and pair.flows:
            self._resting.discard(pair.other)
            self._wanted.pop(pair.other, None)
            connection.pump()
        self._on_change()

    def over(self, connection: Connection, why: str) -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        pair, now = connection.pair, self.now()
        if pair is None:
            self.overhead.of(None).add(connection.traffic)
            if connection.expected is not None:
                if connection.refused:
                    self._refused(self.pairs[connection.expected], why)
                self._failed(connection.expected, f"{self._whence(connection)}: {why}")
            elif why:
                self._notice(f"{self._whence(connection)}: {short(why)}")
            return
        if connection.refused:
            self._refused(pair, why)
        if pair.lost(connection):
            if pair.gone:
                pair.why = f"{self._peers[pair.other]} has ended"
            elif why:
                pair.why = f"{self._peers[pair.other]}: {short(why)}"
            if connection.rests:
                self._resting.add(pair.other)
            self._retries[pair.other].broke(now, connection.taken or now)
            if not self._ending:
                self._on_change()
        elif why and connection.dialled:
            self._failed(pair.other, f"{self._whence(connection)}: {why}")

    # Time

    def _ping(self, connection: Connection) -> None:
        connection.asked = connection.asked or self.now()
        connection.put(bytes((Say.PING,)) + pack_facts(self._facts), "ping")

    def _tick(self) -> None:
        """Look after what is due. Where this site itself stood still, its peers did not."""
        now = self.now()
        stood = max(now - self._ticked - 2 * _TICK, 0.0)
        self._ticked = now
        for connection in list(self._connections):
            self._look_after(connection, now, stood)
        self._on_tick()
        self._rest(now)
        for site in self.pairs:
            self._consider(site)
        if not self._ending:
            self.loop.call_later(_TICK, self._tick)

    def _look_after(self, connection: Connection, now: float, stood: float) -> None:
        settings = self.settings
        connection.heard, connection.born = connection.heard + stood, connection.born + stood
        connection.asked += stood if connection.asked else 0.0
        pair = connection.pair
        if pair is None or pair.line is not connection or not pair.flows:
            if now - connection.born > settings.handshake:
                connection.fail(f"did not say who it is in {settings.handshake:g} s")
            return
        if now - connection.heard > settings.silence:
            connection.fail(f"silent for {settings.silence:g} s", gently=False)
        elif connection.asked and now - connection.asked > _PATIENCE * settings.silence:
            connection.fail("does not answer", gently=False)
        elif now - connection.said > settings.ping:
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
        self.loop.close()
