"""The ledger of a site without a coordinator: it meets the others itself, and keeps its own book.

Everybody waits for everybody at the start, tells what it must, and begins when all have told.
A site that comes back while others train asks them when it may take part again
(:mod:`hansa.engine.runtimes.rejoining`); where nobody trains all begin together after the round
that the furthest of them has done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hansa.base.errors import ConfigError, HansaError, RunError, WireError
from hansa.base.telling import doing
from hansa.engine.exchange.deadline import Deadline
from hansa.engine.party import Tells
from hansa.engine.runtimes.control import AMONG, Message
from hansa.engine.runtimes.host import Report
from hansa.engine.runtimes.interrupts import Interrupts
from hansa.engine.runtimes.rejoining import Rejoining

if TYPE_CHECKING:
    from hansa.engine.algorithm import Algorithm
    from hansa.engine.runtimes.partial import PartialCollector
    from hansa.engine.runtimes.site import Site

STAGE = "stage"
"""Beside what a party tells: how far it is."""
_LOOK = 0.2  # seconds between two looks
_FULL = 1 << 20  # bytes that wait for another, above which it gets no further answer
_GREETING = 3.0  # seconds in which others let a site in, or say why not, if they are there
_AGAIN = 5.0  # seconds after which who has not answered is told once more
_NEWS, _SOON = 60.0, 2.0  # seconds between two lines on who is waited for: the same, another


@dataclass(frozen=True)
class Meeting:
    """How a site meets the others.

    Attributes:
        patience: seconds that it waits for them at the start.
        least: sites that have to be there by then, this one included.
        silence: seconds after which a site that is connected to nobody is waited for no more.
        done: rounds behind this site's own checkpoint.
    """

    patience: float
    least: int
    silence: float
    done: int = 0


class OwnLedger:
    """Meets the other sites, and records what this one's nodes report.

    Args:
        collector: gives what records, once the run's folder is open.
        look: is called now and then, with the site, to note who is there.
        say: tells a person a line.

    Attributes:
        error: what this site failed with.
        absent: sites that were not there at the start.
        whole: the run came to its end.
    """

    def __init__(
        self,
        site: Site,
        meeting: Meeting,
        collector: Callable[[], PartialCollector],
        interrupts: Interrupts,
        say: Callable[[str], None],
        look: Callable[[Site, OwnLedger], None] = lambda site, ledger: None,
    ) -> None:
        self.site, self.meeting, self.collector = site, meeting, collector
        self.interrupts, self.say, self._look_out = interrupts, say, look
        self.others = sorted(peer.site for peer in site.ticket.peers)
        self.rejoining = Rejoining(site.say, self._left, site.post.back, site.ticket.incarnation)
        self.rejoining.begun = meeting.done
        self.error: BaseException | None = None
        self.absent: set[int] = set()
        self.whole = False
        self._own: dict[str, Any] = {}
        self._told: dict[int, dict[str, Any]] = {}
        self._stages: dict[int, dict[str, Any]] = {}
        self._playing = False
        self._gone: set[int] = set()
        self._looked = 0.0

    def may(self, site: int) -> frozenset[str]:
        """Nobody gives orders."""
        return AMONG

    # -- beginning

    def greet(self) -> None:
        """Hear whether the others let this site in, as far as they are there.

        Raises:
            ConfigError: most of the others refuse this site.
        """
        doing("greeting the others")
        patience = Deadline(_GREETING)
        while not patience.passed and any(map(self._silent_yet, self.others)):
            self.site.rest()
        self._check_refused()

    def _silent_yet(self, other: int) -> bool:
        """Whether it is open whether another is there and lets this site in."""
        state = self._state(other)
        return not (state.connected or state.refused or state.why)

    def join(self, tells: Tells) -> Sequence[Tells]:
        """Tell all what this party must, and wait until all have told.

        Raises:
            ConfigError: too few are there in time, or most of the others refuse this site.
            KeyboardInterrupt: it was asked to end.
        """
        self._own = dict(tells)
        began = asked = news = time.monotonic()
        said = ""
        doing("waiting for the others")
        for other in self.others:
            self._tell(other, True)
        while missing := [other for other in self.others if other not in self._told]:
            self._hear(self.site.hear(_LOOK))
            self._watch()
            if self.interrupts.asked:
                raise KeyboardInterrupt
            self._check_refused()
            now = time.monotonic()
            if now - asked >= _AGAIN:
                asked = now
                for other in missing:
                    if self._state(other).connected:
                        self._tell(other, True)
            line = f"waiting for {', '.join(map(self._why_not, missing))}"
            if now - news >= (_NEWS if line == said else _SOON) or not said:
                said, news = line, now
                self.say(line)
            if now - began >= self.meeting.patience:
                self._check_enough(missing)
                break
        self.absent = set(missing)
        for other in missing:
            self._left(other)
        every = {**self._told, self.site.index: self._own}
        return [every[at] for at in sorted(every)]

    def _check_enough(self, missing: Sequence[int]) -> None:
        """Refuse to begin with too few.

        Raises:
            ConfigError: naming who is not there, and why.
        """
        there = len(self.others) + 1 - len(missing)
        if there >= self.meeting.least:
            return
        of = f"{there} of {len(self.others) + 1} sites"
        who = "; ".join(map(self._why_not, missing))
        problem = f"after {self.meeting.patience:g} s there are {of}, not {who}"
        fix = "start the others, or wait longer (patience.start)"
        raise ConfigError("peers", None, problem, fix)

    def _check_refused(self) -> None:
        """Stop where most of the others and this site do not go together: it is this one's fault.

        Raises:
            ConfigError: says what they said.
        """
        refused = [text for other in self.others if (text := self._state(other).refused)]
        if 2 * len(refused) > len(self.others):
            raise ConfigError("peers", None, refused[0], "what this says, at one of the two sites")

    def _tell(self, other: int, asks: bool) -> None:
        """Tell another what this party tells, and how far it is."""
        stage = {"done": self.rejoining.begun, "playing": self._playing, "asks": asks}
        self.site.say(other, "tells", tells={**self._own, STAGE: stage})

    def _take(self, site: int, tells: dict[str, Any]) -> None:
        """What another told."""
        stage = tells.pop(STAGE, None)
        known = {"done": int, "playing": bool, "asks": bool}
        if not isinstance(stage, dict) or any(
            type(stage.get(k)) is not t for k, t in known.items()
        ):
            raise WireError(f"site {site} does not say how far it is")
        if stage["done"] < 0:
            raise WireError(f"site {site} says that it has done {stage['done']} rounds")
        self._told[site], self._stages[site] = tells, stage
        if stage["asks"] and self._own and self.site.links.queued(site) < _FULL:
            self._tell(site, False)

    def rejoin(self, done: int) -> int:
        """When to begin: with the others that wait too, or when those who train say.

        Who does not say within the deadline is not waited for.

        Raises:
            RunError: all sites are needed from the first round to the last, and were not there.
        """
        job = self.collector().job
        most = self.rejoining.most = job.rounds
        there = set(self.others) - self._gone
        playing = {at for at in there if self._stages.get(at, {}).get("playing")}
        said = {at: self._stages[at]["done"] for at in there if at in self._stages}
        if job.algorithm.needs_all:
            behind = {at for at, rounds in said.items() if rounds != done}
            self._check_together(playing | behind, job.algorithm)
        if not playing:
            return max([done, *(rounds for rounds in said.values() if rounds <= most)])
        self.rejoining.begun = done
        self.rejoining.ask(there)
        patience = Deadline(self.site.deadline)
        while not self.rejoining.known:
            self._hear(self.site.hear(_LOOK))
            self._watch()
            for other in sorted(there - self._gone):
                silent = not self._state(other).connected and self._silent(other)
                if silent or (patience.passed and self.rejoining.awaits(other)):
                    self.rejoining.left(other, self._state(other).incarnation)
        at = self.rejoining.announce(there - self._gone)
        return at - 1

    def _check_together(self, elsewhere: Collection[int], algorithm: Algorithm) -> None:
        """Refuse to take part where others are in another round.

        Raises:
            RunError: naming them.
        """
        if elsewhere:
            raise RunError(
                f"{', '.join(map(self._name, sorted(elsewhere)))}: not as many rounds done as "
                f"here, and {algorithm.name} needs all sites in every round: it "
                f"{algorithm.needs_all}; begin anew at all sites (another session), or with an "
                "algorithm such as dpsgd",
                phase="start",
            )

    def begins(self, done: int) -> None:
        """The round after ``done`` has begun: others that ask learn of it."""
        self._playing = True
        self.rejoining.begun = done + 1
        if done > self.meeting.done:
            nodes = [n for n, at in enumerate(self.site.ticket.owner) if at == self.site.index]
            facts = {"site": self.site.index, "nodes": nodes, "round": done + 1}
            event = {"from": self.meeting.done, "at": done + 1, **facts}
            self.collector().folder.event("rejoined", **event)
        self.site.links.tell(round=done, finished=False)

    # -- between rounds

    def alive(self) -> None:
        """Take what others say; who has ended is waited for no more."""
        while (message := self.site.hear()) is not None:
            self._hear(message)
        self._watch()
        for other in self.others:
            if other not in self._gone and self._state(other).gone:
                self.say(f"{self._name(other)} has ended")
                self._left(other)

    def ends(self, done: int) -> bool:
        """Whether this site was asked to end after ``done`` rounds.

        Where another asks when it may take part again, this waits until that is agreed on; not
        for ever, as who asks may never say. That one waits for others for a deadline itself.
        """
        self.alive()
        if self._playing:
            self._await_server(done)
        patience = Deadline(2 * self.site.deadline)
        while self.rejoining.asking and not self.interrupts.asked:
            self._hear(self.site.hear(_LOOK))
            for other in sorted(self.rejoining.asking):
                if self._state(other).gone or self._silent(other) or patience.passed:
                    self.rejoining.left(other, self._state(other).incarnation)
        if self.interrupts.asked:
            return True
        self.rejoining.begun = done + 1
        return False

    def _await_server(self, done: int) -> None:
        """Begin no round after ``done`` without a server that has ended: none could train anything.

        It may come back while its patience lasts.

        Raises:
            RunError: it does not, or has been silent for as long.
        """
        job = self.collector().job
        hubs = job.algorithm.hubs(job.network.clients)
        owner = self.site.ticket.owner
        serving = {owner[hub] for hub in hubs.tolist() if hub >= job.network.clients}
        if not serving or self.site.index in serving:
            return
        seconds = max(self.site.post.deadlines[other].seconds for other in serving)
        patience, said = Deadline(seconds), False
        while not self.interrupts.asked and all(self._serves_no_more(at, done) for at in serving):
            names = ", ".join(map(self._name, sorted(serving)))
            if patience.passed or serving <= self.site.post.given_up:
                raise RunError(
                    f"{names}, where the server lives, was not there for {seconds:g} s "
                    "(patience.server), and there is no round without it; start it again, then "
                    "this site",
                    round=done + 1,
                    phase="exchange",
                )
            if not said:
                said = True
                self.say(f"waiting for {names}, where the server lives, at most {seconds:g} s")
            self._hear(self.site.hear(_LOOK))
            self._watch()

    def _serves_no_more(self, other: int, done: int) -> bool:
        """Whether a server's site is gone, and has not said what comes after ``done`` rounds."""
        last = self._state(other).facts.get("round")
        further = isinstance(last, int) and last > done
        return (other in self._gone and not further) or other in self.site.post.given_up

    def _hear(self, message: Message | None) -> None:
        """Take a message of another site."""
        if message is None:
            return
        if message.kind == "tells":
            try:
                self._take(message.site, message.fields["tells"])
            except WireError as error:
                self.site.control.dropped.count(str(error))
        elif message.kind == "where":
            self.say(f"{self._name(message.site)} is back")
            self.rejoining.heard(message)
            self._gone.discard(message.site)
        else:
            self.rejoining.heard(message)

    def _left(self, site: int) -> None:
        self._gone.add(site)
        self.site.post.leave(site)

    # -- recording

    def report(self, values: Report) -> None:
        """Record it."""
        self.collector().add(values)
        self.site.links.tell(round=values["round"], finished=False)

    def note(self, event: Mapping[str, Any]) -> None:
        """Record an event at once."""
        self.collector().folder.event(**event)

    def settled(self) -> None:
        """Write what is in memory."""
        self.collector().folder.flush()

    def saved(self, done: int, entry: dict[str, Any]) -> None:
        """This site's checkpoint is its own part."""
        collector = self.collector()
        collector.seal(collector.folder.path / "checkpoints", done, [entry])

    def done(self, whole: bool) -> None:
        """Stay until the others have all that this site has said, or are gone."""
        self.whole = whole
        self.site.links.tell(finished=True, round=self.collector().rounds_done)
        while [other for other in self.others if self._wants(other)]:
            self._hear(self.site.hear(_LOOK))
            self._watch()
        self._look_out(self.site, self)  # what stays in the folder is how it was at the end

    def failed(self, error: BaseException) -> None:
        """Keep why."""
        self.error = error

    def _wants(self, other: int) -> bool:
        """Whether another has not taken yet what this site has said, and may."""
        state = self._state(other)
        return bool(
            self.site.links.queued(other)
            and other not in self._gone
            and not state.gone
            and not self._silent(other)
        )

    # -- who is there

    def _state(self, other: int) -> Any:
        return self.site.links.state(other)

    def _silent(self, other: int) -> bool:
        """Whether nothing has come from another for so long that it is waited for no more."""
        return time.monotonic() - self._state(other).heard > self.meeting.silence

    def _name(self, other: int) -> str:
        return str(self.site.ticket.peer(other))

    def _why_not(self, other: int) -> str:
        """Who is not there, and why as far as that is known."""
        state, peer = self._state(other), self.site.ticket.peer(other)
        why = state.refused or state.why
        if not why:
            why = "has not told yet" if state.connected else "has not come yet"
        why = why.removeprefix(f"{peer}: ").removeprefix(f"{peer} ")
        why = why.removeprefix(
            "was refused there: "
        )  # either end may have been the first to say it
        return f"{peer} ({why})"

    def _watch(self) -> None:
        """Pass on what links have to say, and note who is there."""
        for line in self.site.links.notices():
            self.say(f"warning: {line}")
        if time.monotonic() - self._looked >= 1.0:
            self._looked = time.monotonic()
            self._look_out(self.site, self)


def as_error(error: BaseException) -> HansaError:
    """What a site failed with, as something that a command can say."""
    if isinstance(error, HansaError):
        return error
    return RunError(f"{type(error).__name__}: {error}", phase="start")
