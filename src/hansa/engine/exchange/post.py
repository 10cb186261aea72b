"""The messages of a site: what it sends to others, and what they send, by round and exchange."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hansa.base.errors import WireError
from hansa.engine.exchange import vain
from hansa.engine.exchange.carrier import Attendance, Carrier, PeerFacts, no_moment
from hansa.engine.exchange.deadline import Deadline
from hansa.engine.exchange.dropped import Dropped
from hansa.engine.exchange.loose import Loose
from hansa.engine.exchange.opened import opened
from hansa.engine.exchange.pigeonholes import Pigeonholes
from hansa.engine.exchange.wire import (
    UNASKED,
    Buffer,
    Header,
    Key,
    When,
    frame,
    pack_control,
    unpack_control,
)
from hansa.engine.links.assembly import DATA

HELD = "held"
"""What a site tells that waits for long: over how many sites it is held up by somebody's silence;
0: it is not."""
SKIPPED = "\x01skipped"
"""The kind of a frame that says that its sender sends no more of a round: no message between nodes,
not counted, and no kind that a message can have."""
_POLL = 0.2  # seconds between two looks at whether there is a point in waiting
_MISSED = 1 << 16  # messages that did not come, the latest of which are remembered


class SitePost:
    """Carries the messages of one site's nodes.

    A peer can be ahead by a round, so messages of later exchanges are kept until they are asked
    for. What is of rounds beyond that is not taken, so that its sender has to wait: it keeps the
    order of what it says. Messages that are malformed, repeated, too late or of nodes that do not
    live at the site that has sent them are counted and dropped.

    A peer is given up that says nothing of use for the ``deadline`` while it is waited for. What
    it has said before, or never should have, is of no use. Whoever was given up is not waited for
    again until it is heard: of anything that has not come before, even too late. Who waits for long
    tells so all others, who wait for it meanwhile; so the one who is silent is given up, and not
    all who are held up by it. Such words go over as many sites as there are at most, so that none
    who wait for each other in a circle do so for ever.

    Whoever sends waits while a peer takes nothing and too much is queued for it, and takes what
    comes meanwhile: two who send each other a lot at once both go on. What would be queued for a
    peer that was given up is not sent, and the peer is told that it will not come.

    Args:
        index: this site's number.
        owner: site of each node of the run.
        deadline: seconds of silence of a peer after which waiting for it is given up.
        alive: raises when there is no point in waiting any longer; may call :meth:`leave` and
            :meth:`back`.
        outgoing: bytes that may be queued for a peer.
        kept: bytes of a peer's messages that may wait here to be asked for.
        moment: is told what begins, in which round: ``sending`` or ``receiving``.

    Attributes:
        unasked: messages that belong to no exchange make sense in this run.
        needs_all: why the run cannot go on without a site; empty: it can.
    """

    def __init__(
        self,
        index: int,
        owner: Sequence[int],
        deadline: float,
        alive: Callable[[], None],
        outgoing: int = 64 << 20,
        kept: int = 4 << 30,
        moment: Callable[[str, int], None] = no_moment,
    ) -> None:
        self.index, self.owner, self.alive = index, list(owner), alive
        self.outgoing, self.moment = outgoing, moment
        self.seconds = deadline
        self.deadlines = {peer: Deadline(deadline) for peer in set(owner) - {index}}
        self.given_up: set[int] = set()
        self.attendance = Attendance()
        self.dropped = Dropped()
        self.carrier: Carrier
        self.noting: Callable[[Mapping[str, Any]], None] | None = None
        self._sites = len(set(owner))
        self._firsts = {site: self.owner.index(site) for site in set(owner)}
        self._holes = Pigeonholes(kept)
        self._came = threading.Condition()
        self._inbox: deque[tuple[int, Sequence[Buffer]]] = deque()
        self._ahead: dict[int, deque[Sequence[Buffer]]] = {}
        self.unasked, self.needs_all = False, ""
        self._unasked = Loose(kept)
        # What a peer that was given up did not say, in the order in which that was noticed.
        self._missed: dict[tuple[When, Key], None] = {}
        self._enough: Deadline | None = None  # of words and messages that are not waited for
        self._skipping: set[tuple[int, int]] = set()  # (peer, round) of which this one does not
        self._said = Deadline(deadline / 4)  # since this one said that it is held up
        self._hops = 0
        self._moments: dict[str, int] = {}

    def connect(self, carrier: Carrier) -> SitePost:
        """Take what brings messages; its messages of kind DATA go to :meth:`arrived`."""
        self.carrier = carrier
        return self

    # -- what comes

    def arrived(self, site: int, parts: Sequence[Buffer]) -> None:
        """A message of a site that has proven who it is; called from any thread."""
        with self._came:
            self._inbox.append((site, parts))
            self._came.notify_all()

    def wake(self) -> None:
        """Let who waits look whether there still is a point; called from any thread."""
        with self._came:
            self._came.notify_all()

    def rest(self, seconds: float = _POLL) -> None:
        """Wait until something comes, or for so long."""
        with self._came:
            if not self._inbox:
                self._came.wait(seconds)

    def take_all(self) -> None:
        """File all that has come."""
        while self._take():
            pass

    def _take(self) -> bool:
        """File the next message that came; returns whether there was one."""
        with self._came:
            if not self._inbox:
                return False
            site, parts = self._inbox.popleft()
        waiting = self._ahead.get(site)
        if waiting:
            waiting.append(parts)  # its turn comes when those before it are taken
        elif not self._file(site, parts):
            self._ahead.setdefault(site, deque()).append(parts)
        return True

    def _catch_up(self) -> None:
        """File what came too early, as far as its time has come."""
        for site, waiting in self._ahead.items():
            while waiting and self._file(site, waiting[0]):
                waiting.popleft()

    def _file(self, site: int, parts: Sequence[Buffer]) -> bool:
        """Put a message where it belongs, if its time has come.

        Only what is of use puts off the deadline of the site that it came from.
        """
        try:
            headers, payload = opened(parts, self.owner, site, self.index)
        except WireError as error:
            self.dropped.count(f"from site {site}: {error}")
            headers, payload = [], b""
        size = sum(map(len, parts))
        skipped = bool(headers) and headers[0].kind == SKIPPED
        asked = bool(headers) and (skipped or headers[0].when.number != UNASKED)
        if asked and self._holes.early(headers[0].when):
            return False
        loose = self.unasked and bool(headers) and not asked
        if loose and self._unasked.room(site, size, len(headers)):
            came = bytes(payload)
            self._unasked.put(site, size, [(header, came) for header in headers])
            self.given_up.discard(site)
            return True
        self.carrier.grant(site, size)
        if skipped:
            self._holes.skip(site, headers[0].round)
        elif headers and not asked:
            what = "too many messages" if loose else "a message"
            self.dropped.count(f"from site {site}: {what} of no exchange")
        elif headers:
            self._keep(site, headers, payload)
        return True

    def _keep(self, site: int, headers: list[Header], payload: Buffer) -> None:
        """Put messages of an exchange where they wait for it."""
        useful = awaited = False
        for header in headers:
            when, key = header.when, (header.sender, header.receiver)
            awaited |= self._holes.awaited(header)
            why = self._holes.put(site, header, payload)
            if not why:
                useful = True
                continue
            self.dropped.count(why)
            if (when, key) in self._missed:  # it is there again
                del self._missed[when, key]
                self.given_up.discard(site)
        if useful:
            self._heard(site, awaited)

    def _heard(self, site: int, awaited: bool) -> None:
        """Something came that may be of use: it puts off the deadline, but not for ever.

        Args:
            awaited: it is waited for. There is an end of such messages; of others a peer can make
                as many as it likes.
        """
        self.given_up.discard(site)
        if awaited or self._enough is None or not self._enough.passed:
            self.deadlines[site].touch()

    def note(self, event: dict[str, Any]) -> bool:
        """Have an event recorded before anything else leaves this site; no: it cannot be."""
        if self.noting is None:
            return False
        self.noting(event)
        return True

    # -- who is there

    def leave(self, site: int) -> None:
        """A site is gone: nothing of it is waited for, and nothing is sent to it."""
        self.attendance.until[site] = None
        self.given_up.discard(site)
        self.carrier.forget(site)

    def back(self, site: int, round: int) -> None:
        """A site that was gone speaks again, and listens, from this round on."""
        self.attendance.until[site] = round

    # -- what goes

    def send(self, header: Header, payload: bytes | memoryview, *more: Header) -> None:
        """Send one message to the site of its receiver, once for all who hear it there.

        Args:
            more: headers of the same message for others of that site's nodes.
        """
        site = self.owner[header.receiver]
        if self.attendance.away(site, header.round):
            return
        if not self._room(site):
            self._skip(site, header)
            return
        heads = b"".join(one.pack() for one in (header, *more))
        self.carrier.send(site, DATA, [heads, payload])
        self._begun("sending", header.round)

    def tell(self, header: Header, payload: bytes) -> None:
        """Send a frame of words."""
        self.send(header, payload)

    def _room(self, site: int) -> bool:
        """Wait until not too much is queued for a site; no: it has taken nothing for too long."""
        queued = self.carrier.queued(site)
        if queued <= self.outgoing:
            return True
        patience = Deadline(self.deadlines[site].seconds)
        while queued > self.outgoing:
            if site in self.given_up or site in self.attendance.until:
                return False
            if not self._take():
                self._pay()  # two who wait for each other both have to go on
                self.alive()
                self.rest(_POLL / 4)
            now = self.carrier.queued(site)
            if now < queued:
                patience.touch()
            elif patience.passed:
                self.given_up.add(site)
            queued = now
        return True

    def _pay(self) -> None:
        """Let everybody send as if all that is here had been received."""
        for site, size in self._unasked.pay().items():
            self.carrier.grant(site, size)

    def _skip(self, site: int, header: Header) -> None:
        """Tell a site, once, that it gets no more of a round."""
        if (site, header.round) in self._skipping or self.attendance.away(site, header.round):
            return
        self._skipping.add((site, header.round))
        mark = frame(
            When(header.round, SKIPPED, UNASKED), header.sender, header.receiver, SKIPPED, b""
        )
        self.carrier.send(site, DATA, [mark.pack(), b""])

    def _begun(self, what: str, round: int) -> None:
        """Say once a round what has begun."""
        if self._moments.get(what, -1) < round:
            self._moments[what] = round
            self.moment(what, round)

    # -- exchanges

    def gather(
        self, when: When, expected: set[Key], whole: bool = True
    ) -> dict[Key, tuple[Header, Buffer]]:
        """Wait until all expected messages of an exchange are there.

        Args:
            whole: a peer's silence is an error; else the messages of the others are given. What
                a site that is gone does not say is an error where all are needed, and else none.

        Raises:
            RunError: a peer's deadline passed; names the nodes that were not heard.
        """
        self._holes.begin(when)
        self._catch_up()
        self._begun("receiving", when.round)
        for peer in self._peers(expected) - (set() if whole else self.given_up):
            self.deadlines[peer].touch()
        self._said.touch()
        heard = {peer: self.carrier.state(peer).heard for peer in self._peers(expected)}
        enough = self._enough = Deadline(self.seconds * self._sites)
        self.alive()  # a word to stop is heard even where no peer is ever waited for
        missing = self._holes.lack(when, expected)
        while missing:
            if self._take():
                continue
            peers = self._peers(missing)
            gone = {peer for peer in peers if self.attendance.away(peer, when.round)}
            if gone and self.needs_all:
                raise vain.gone(self._nodes(missing, gone), when.round, self.needs_all)
            never = {peer for peer in peers if self._holes.skipped(peer, when.round)}
            if peers <= gone | (never if whole else never | self.given_up):
                if whole and never - gone:
                    raise vain.went_on(self._nodes(missing, never - gone), when.round)
                self._miss(when, missing)
                break
            self.alive()
            if not enough.passed:
                self._put_off(peers, heard)
            self._say_held(peers - gone)
            silent = {peer for peer in peers - gone - never if self.deadlines[peer].passed}
            if silent and whole:
                seconds = self.deadlines[min(silent)].seconds
                raise vain.silent(self._nodes(missing, silent), when.round, seconds)
            self.given_up |= silent
            if not silent:
                self.rest()
        self._enough = None
        if self._hops:
            self._hops = 0
            self.carrier.tell(**{HELD: 0})
        got = self._holes.end(when)
        return {key: got[key] for key in expected if key in got}

    def _miss(self, when: When, missing: set[Key]) -> None:
        """Remember what did not come, and forget what did not come long ago."""
        self._missed |= dict.fromkeys((when, key) for key in missing)
        while len(self._missed) > _MISSED:
            del self._missed[next(iter(self._missed))]

    def _put_off(self, peers: set[int], heard: dict[int, float]) -> None:
        """Wait longer for those who tell that they wait for somebody themselves."""
        for peer in peers:
            state = self.carrier.state(peer)
            if state.heard > heard[peer] and 0 < _hops(state) <= self._sites:
                heard[peer] = state.heard
                self.given_up.discard(peer)
                self.deadlines[peer].touch()

    def _say_held(self, peers: set[int]) -> None:
        """Tell the others now and then that this one waits for these peers."""
        if not self._said.passed:
            return
        self._said.touch()
        hops = 1 + max((_hops(self.carrier.state(peer)) for peer in peers), default=0)
        hops = min(hops, self._sites + 1)  # that is a circle
        if hops > self._hops:
            self._hops = hops
            self.carrier.tell(**{HELD: self._hops})

    def _peers(self, keys: set[Key]) -> set[int]:
        """The sites that messages are due from."""
        return {self.owner[sender] for sender, _ in keys}

    def _nodes(self, missing: set[Key], sites: set[int]) -> set[int]:
        """Those of these sites of which something is missing."""
        return {sender for sender, _ in missing if self.owner[sender] in sites}

    def receive(self, wait: int) -> list[tuple[Header, bytes]]:
        """The next message that belongs to no numbered exchange, for each who hears it here.

        Args:
            wait: ms; if none comes in them, there is nothing.
        """
        while not self._unasked:
            if self._take():
                continue
            if not wait:
                return []
            self.rest(wait / 1000)
            wait = 0
        site, owed, came = self._unasked.take()
        self.carrier.grant(site, owed)
        return came

    def share(self, when: When, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The arrays of all sites, end to end; each speaks in the name of its first node.

        Raises:
            WireError: another site does not share the same names.
        """
        own = self._firsts[self.index]
        away = {site for site in self._firsts if self.attendance.away(site, when.round)}
        firsts = [self._firsts[site] for site in sorted(self._firsts.keys() - away)]
        others = [other for other in firsts if other != own]
        payload = pack_control("share", **values)
        for other in others:
            self.send(frame(when, own, other, when.kind or "share", payload), payload)
        got = self.gather(when, {(other, own) for other in others})
        parts = []
        for other in firsts:
            if other != own and (other, own) not in got:
                continue  # gone meanwhile
            part: dict[str, Any] = values if other == own else unpack_control(got[other, own][1])
            if not values.keys() <= part.keys():
                raise WireError(f"the worker of node {other} shared {sorted(part)}")
            parts.append(part)
        return {name: np.concatenate([part[name] for part in parts]) for name in values}

    def close(self) -> None:
        """Let go of what was kept."""
        self._holes.clear()
        self._inbox.clear()
        self._ahead.clear()


def _hops(state: PeerFacts) -> int:
    """Over how many sites a peer says that it is held up."""
    said = state.facts.get(HELD, 0)
    return said if isinstance(said, int) and said > 0 else 0
