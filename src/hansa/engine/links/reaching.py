"""When and on which way a site reaches for its peers."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from typing import Protocol

from hansa.base.errors import RunError
from hansa.engine.links.addresses import reach
from hansa.engine.links.limits import LinkSettings
from hansa.engine.links.pair import Pair
from hansa.engine.links.retries import Retries
from hansa.engine.links.ticket import Peer, Ticket

_GRACE = 1.0  # seconds that the higher of two sites leaves it to the lower to reach for it


class Ways(Protocol):
    """How peers are reached, for :class:`Reaching`."""

    def now(self) -> float:
        """Seconds of the monotonic clock."""

    def reached(self, site: int, sock: socket.socket) -> None:
        """A socket is connected to where a peer should be."""

    def open_circuit(self, site: int) -> bool:
        """Reach for a peer through a relay; returns whether there is one that is connected."""

    def cut_off(self, site: int) -> bool:
        """Whether the shaped link to a peer carries nothing at the moment."""


class Reaching:
    """A site's attempts to be connected with its peers.

    The lower of two sites reaches for the higher, and after a while the higher for the lower too.
    Whom nobody listens to reaches for all that listen, and for the others through a relay.

    Args:
        ticket: the site's.
        settings: limits.
        loop: the event loop.
        ways: how they are reached.
        changed: is called when there is another reason why one is not.
        chance: what spreads the attempts.

    Attributes:
        peers: all of them, by number.
        pairs: what there is with each.
        under_way: peers to whom a connection is being made.
        resting: peers whose link was closed as nobody used it.
    """

    def __init__(
        self,
        ticket: Ticket,
        settings: LinkSettings,
        loop: asyncio.AbstractEventLoop,
        ways: Ways,
        changed: Callable[[], None],
        chance: random.Random,
    ) -> None:
        self._ticket, self._settings, self._loop = ticket, settings, loop
        self._ways, self._changed, self._chance = ways, changed, chance
        self.peers: dict[int, Peer] = {}
        self.pairs: dict[int, Pair] = {}
        self.under_way: set[int] = set()
        self.resting: set[int] = set()
        self._met: set[int] = set()
        self._retries: dict[int, Retries] = {}
        self._wanted: dict[int, float] = {}  # since when a link is wanted that is not there
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._over = False

    def add(self, peer: Peer, pair: Pair) -> None:
        """There is such a peer."""
        self.peers[peer.site], self.pairs[peer.site] = peer, pair
        self._retries[peer.site] = Retries(self._settings.retry, self._chance)

    def meet(self, peer: Peer) -> None:
        """Reach for a peer from now on, at the address that it has now."""
        if peer.site not in self._met or self.peers[peer.site].address != peer.address:
            self._retries[peer.site].hurry(self._ways.now())
        self._met.add(peer.site)
        self.peers[peer.site] = peer
        self.consider(peer.site)

    def provable(self, site: int) -> bool:
        """Whether there is such a peer, and it can prove who it is: with keys, its own is known."""
        return site in self.peers and (self._ticket.key is None or bool(self.peers[site].key))

    def _wants(self, site: int) -> bool:
        """Whether a link to a peer is wanted and not there."""
        pair = self.pairs[site]
        if self._over or pair.line is not None or site not in self._met:
            return False
        if not pair.session.settled:
            return True
        return site not in self.resting and (self._settings.eager or not self._ticket.listen)

    def consider(self, site: int) -> None:
        """Reach for a peer if a link is wanted, can be made, and it is time."""
        if not self._wants(site):
            self._wanted.pop(site, None)
            return
        now = self._ways.now()
        since = self._wanted.setdefault(site, now)
        peer, pair = self.peers[site], self.pairs[site]
        if site in self.under_way or now < self._retries[site].due:
            return
        if self._ways.cut_off(site):
            pair.why = f"the link to {peer} is cut"
        elif not self.provable(site):
            pair.why = f"the key of {peer} is not known yet"
        elif self._relays(peer):
            if (pair.decides or now >= since + _GRACE) and not self._ways.open_circuit(site):
                self._retries[site].failed(now)
        elif not peer.address:
            pair.why = f"{peer} has no address; it has to reach for this site"
        elif not self._ticket.listen or pair.decides or now >= since + _GRACE:
            self.under_way.add(site)
            self._tasks[site] = self._loop.create_task(self._dial(site, peer))

    def consider_all(self) -> bool:
        """Reach for those that are due; returns whether a link is wanted and not there."""
        for site in [site for site in self._met if self.pairs[site].line is None]:
            self.consider(site)
        return bool(self._wanted)

    def _relays(self, peer: Peer) -> bool:
        """Whether a peer is reached through others: it has no address, or is not reached there."""
        if not set(self._ticket.relays) - {peer.site, self._ticket.site}:
            return False
        if not peer.address:
            return not self._ticket.listen
        failures = self._retries[peer.site].failures
        return failures >= 3 and failures % 2 == 1

    async def _dial(self, site: int, peer: Peer) -> None:
        try:
            sock = await reach(peer.address, self._settings.handshake)
        except RunError as error:
            self.failed(site, f"{peer}: {error}")
            return
        finally:
            self._tasks.pop(site, None)
        if self.pairs[site].line is not None or self._over:
            self.under_way.discard(site)
            sock.close()
        else:
            self._ways.reached(site, sock)

    def failed(self, site: int, why: str) -> None:
        """An attempt was in vain."""
        self.under_way.discard(site)
        self._retries[site].failed(self._ways.now())
        pair = self.pairs[site]
        if pair.line is None and pair.why != why:
            pair.why = why
            self._changed()

    def linked(self, site: int) -> None:
        """A link is there."""
        self.under_way.discard(site)
        self.resting.discard(site)
        self._wanted.pop(site, None)

    def broke(self, site: int, *, useful: bool) -> None:
        """A link is gone. ``useful``: messages went over it."""
        self._retries[site].broke(self._ways.now(), useful=useful)

    def left(self, site: int) -> None:
        """A peer said that it has ended: it may be started anew, so it is reached for rarely."""
        self._retries[site].rest(self._ways.now())

    def end(self) -> None:
        """Reach for nobody any more."""
        self._over = True
        for task in self._tasks.values():
            task.cancel()
