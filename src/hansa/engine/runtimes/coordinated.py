"""A site's reports to who gathers those of all sites, and the orders that come from there."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hansa.base.errors import OwnCodeError, RunError
from hansa.engine.exchange.deadline import Deadline
from hansa.engine.links.ticket import Peer
from hansa.engine.party import Tells
from hansa.engine.runtimes.control import AMONG, ORDERED, Message
from hansa.engine.runtimes.host import Report
from hansa.engine.runtimes.ledgers import Stopped
from hansa.engine.runtimes.rejoining import Rejoining
from hansa.engine.runtimes.site import Site

_LOOK = 0.2  # seconds between two looks
_BACK = "where a server lives, to be back"
_START = 60.0  # seconds that a start may take, however short the deadline
_COUNTED = 5.0  # seconds in which what was said last may still arrive


class Coordinated:
    """Reports to the one who gathers them, who can end this site, or all after one round.

    Args:
        careful: what others come to may follow from what this site reports, so it reports first.
    """

    def __init__(self, site: Site, careful: bool = False) -> None:
        self.site, self.careful = site, careful
        self.head = len(site.ticket.sites)
        self.rejoining = Rejoining(site.say, self._left, self._back, site.ticket.incarnation)
        self._paused = False
        self._last: int | None = None

    def greet(self) -> None:
        """Whoever gathers has started this site, and lets it in."""
        self._gone: set[int] = set()
        self._awaited: set[int] = set()  # those without whom no round is one

    def may(self, site: int) -> frozenset[str]:
        """Who gathers gives orders; the others ask."""
        return ORDERED if site == self.head else AMONG

    def _say(self, kind: str, **fields: Any) -> None:
        self.site.say(self.head, kind, **fields)

    # -- beginning

    def join(self, tells: Tells) -> Sequence[Tells]:
        """Report to the one who gathers; wait until all have."""
        self._say("hello", address=self.site.address, tells=dict(tells))
        peers = self._expect("peers").fields
        for gone in peers["gone"]:
            self._left(gone)
        self._awaited = set(peers["awaited"])
        self.site.meet(
            Peer(site, address, key)
            for site, address, key in peers["addresses"]
            if site != self.site.index
        )
        told: list[Tells] = peers["tells"]
        return told

    def rejoin(self, done: int) -> int:
        """Ask the sites that are there, and tell them and who gathers when this one is back.

        Who does not say how far it is within the deadline is not waited for.
        """
        there = set(self.site.ticket.sites) - self._gone - {self.site.index}
        self.rejoining.begun = done
        self.rejoining.ask(there)
        patience = Deadline(self.site.deadline)
        while not self.rejoining.known:
            self._obey(self.site.hear(_LOOK))
            if patience.passed:
                who = self._named(self.rejoining.give_up())
                line = f"{who} did not say in {patience.seconds:g} s which round it has begun"
                self._say("note", event={"kind": "remark", "text": line, "round": done})
        at = self.rejoining.announce(there - self._gone)
        self._say("rejoined", since=done, at=at)
        self.settled()
        return at - 1

    # -- between rounds

    def begins(self, done: int) -> None:
        """Others that ask learn of it."""
        self.rejoining.begun = done + 1

    def alive(self) -> None:
        """Take all orders that there are."""
        while (message := self.site.hear()) is not None:
            self._obey(message)

    def ends(self, done: int) -> bool:
        """Once an end was asked for, this waits until it is known who has begun which round; and
        for a server that is started again, since there is no round without it.

        Raises:
            RunError: who has to say something does not within the deadline.
        """
        self.alive()
        patience, why = Deadline(0.0), ""
        while now := self._waits():
            if now != why:
                least = _START if now.endswith(_BACK) else 0.0
                patience = Deadline(max(self.site.deadline, least))
            elif patience.passed:
                raise RunError(f"waited {patience.seconds:g} s in vain {now}", round=done + 1)
            why = now
            self._obey(self.site.hear(_LOOK))
        if self._last is not None and done >= self._last:
            return True
        self.begins(done)
        return False

    def _waits(self) -> str:
        """What no round begins before; empty: nothing holds this site up."""
        if self._paused:
            return "for the coordinator, which had asked for an end, to say after which round"
        if self.rejoining.asking:
            who = self._named(self.rejoining.asking)
            return f"for {who}, which asked which round this one has begun, to say when it is back"
        if self._awaited and self._last is None:
            return f"for {self._named(self._awaited)}, {_BACK}"
        return ""

    def _named(self, sites: Collection[int]) -> str:
        return ", ".join(f"worker {site}" for site in sorted(sites))

    def _obey(self, message: Message | None) -> None:
        """Do as a message says.

        Raises:
            Stopped: that is to stop, or no sense can be made of it now.
        """
        if message is None or self.rejoining.heard(message):
            return
        _, kind, fields = message
        if kind == "pause":
            self._paused = True
            self._say("paused", round=self.rejoining.begun)
        elif kind == "last":
            self._paused, self._last = False, fields["round"]
        elif kind == "gone":
            if self.rejoining.left(fields["site"], fields["incarnation"]) and fields["awaited"]:
                self._awaited.add(fields["site"])
        elif kind == "address":
            self.site.meet([Peer(fields["site"], fields["address"], fields["key"])])
        else:
            raise Stopped(f"the coordinator said {kind!r}")

    def _expect(self, kind: str) -> Message:
        """Wait for an order of this kind."""
        while True:
            message = self.site.hear(_LOOK)
            if message is not None and message.kind == kind:
                return message
            self._obey(message)

    def _left(self, site: int) -> None:
        self._gone.add(site)
        self.site.post.leave(site)

    def _back(self, site: int, round: int) -> None:
        self._gone.discard(site)
        self._awaited.discard(site)
        self.site.post.back(site, round)

    # -- reporting

    def report(self, values: Report) -> None:
        """Send it on."""
        self._say("report", report=values, overhead=self.site.overhead())

    def note(self, event: Mapping[str, Any]) -> None:
        """Send it on; it is there when this returns."""
        self._say("note", event=dict(event))
        self.settled()

    def settled(self) -> None:
        """Wait until who gathers has what was sent to it; it may be slow, but not silent."""
        silence = Deadline(self.site.deadline)
        queued = self.site.links.queued(self.head)
        while queued:
            self.alive()
            self.site.rest()
            left = self.site.links.queued(self.head)
            if left < queued:
                silence.touch()
            elif silence.passed:
                raise RunError(f"the coordinator took no report for {silence.seconds:g} s")
            queued = left

    def saved(self, done: int, entry: dict[str, Any]) -> None:
        """Say so."""
        self._say("saved", round=done, entry=entry)

    def done(self, whole: bool) -> None:
        """Say so, and wait for leave: others may still need what this site has sent.

        Once there is leave, all that others had to say is here; what of it was of no use is told.
        """
        self.site.links.flush(_COUNTED)  # so that the last report is among what it has cost
        self._say("done", whole=whole, overhead=self.site.overhead())
        self._expect("bye")
        self.site.post.take_all()
        self._say("left", dropped={**self.site.control.dropped, **self.site.post.dropped})

    def failed(self, error: BaseException) -> None:
        """Say how; the log says where."""
        traceback.print_exception(error)
        failure = error if isinstance(error, RunError) else RunError(str(error), phase="start")
        own = [error.field, error.problem, error.fix] if isinstance(error, OwnCodeError) else []
        self._say(
            "error",
            problem=failure.problem,
            node=None if failure.node is None else int(failure.node),
            round=failure.round,
            phase=failure.phase,
            repeats=failure.repeats,
            own=own,
            type=type(error).__name__,
        )
