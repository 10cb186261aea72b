"""Who gathers what the sites of one owner's run report, and notices when one is gone."""

from __future__ import annotations

import secrets
from collections import Counter
from typing import Any

import numpy as np

from hansa.base.errors import Diverged, OwnCodeError, RunError, WireError
from hansa.engine.exchange.deadline import Deadline
from hansa.engine.job import Job
from hansa.engine.links.assembly import CONTROL
from hansa.engine.links.keys import Key
from hansa.engine.links.limits import LinkSettings
from hansa.engine.links.links import Links
from hansa.engine.links.secret import SECRET_BYTES
from hansa.engine.links.ticket import Peer, Ticket
from hansa.engine.links.vouching import BySecret, ChannelKind, digest_of
from hansa.engine.runtimes.checkpoint import peek
from hansa.engine.runtimes.checkpoint_parts import CheckpointParts
from hansa.engine.runtimes.control import (
    REPORTED,
    Control,
    Message,
    check_report,
    overhead_of,
)
from hansa.engine.runtimes.crashes import OnCrash
from hansa.engine.runtimes.launcher import Launcher
from hansa.engine.runtimes.member import Member
from hansa.engine.runtimes.runtime import Launch, owners, split_nodes
from hansa.engine.runtimes.supplies import Depot

_START = 60.0  # seconds that sites have to be heard first, however short the deadline
_GRACE = 3.0  # seconds that all sites together have to leave
_LAST_WORDS = 0.5  # seconds in which the account of a process that has ended may yet come
_NOT_A_WORD = "the other end closed the connection"
_IN_VAIN = 3  # starts of a site, one after the other, from which no round came


class Coordinator:
    """Gathers what sites report, and takes care that all end.

    Models never pass through it but for the average that is evaluated. It is a site too, the one
    after the last, and no node lives there.

    Args:
        deadline: seconds of a worker's or a peer's silence.
        launcher: starts the sites.
        channel: what sites prove to each other.
        listen: ``host:port`` where sites reach this one.
        depot: files for sites that share no disk with this one, and what those bring.
    """

    def __init__(
        self,
        job: Job,
        launch: Launch,
        workers: int,
        deadline: float,
        launcher: Launcher,
        on_crash: OnCrash = "stop",
        links: LinkSettings | None = None,
        channel: ChannelKind | None = None,
        listen: str = "127.0.0.1:0",
        depot: Depot | None = None,
    ) -> None:
        self.job, self.collector, self.launcher = job, launch.collector, launcher
        self.launch, self.deadline, self.on_crash = launch, deadline, on_crash
        parts = split_nodes(job.nodes, workers, job.servers)
        self.members = [Member(ids) for ids in parts]
        self.since = 0 if launch.resume is None else int(peek(launch.resume).get("round", 0))
        self.index, self.owner = workers, tuple(owners(parts))
        self.channel = channel or BySecret()
        self.run, keyed = secrets.token_hex(8), self.channel.keyed
        self.key = Key.generate("coordinator") if keyed else None
        self.secret = b"" if keyed else secrets.token_bytes(SECRET_BYTES)
        self.founded = self.channel.found(self.collector.folder.path)
        sealer = self.collector.sealer = self.channel.sealer(self.channel.member(self.founded))
        if sealer is not None and launch.resume is not None:
            sealer.check(launch.resume, peek(launch.resume))
        config = self.collector.folder.config
        self.config = {"run": digest_of(config)} if self.channel.attests else {}
        self.listens, self.depot = listen, depot
        self.control = Control(lambda site: REPORTED)
        self.links = Links(
            self._ticket(), links or LinkSettings(), self._arrived, self.control.wake
        )
        self.control.carrier = self.links
        self.tells: dict[int, Any] = {}
        self.parts = CheckpointParts(
            self.members, launch.collector, launch.checkpoints, depot, launch.resume
        )
        self.started, self.whole = False, True
        self._patience = Deadline(max(1.5 * deadline, _START))  # since a site was started
        self.begun: dict[int, int] | None = None
        self.overhead: Counter[str] = Counter()
        self.dropped: set[str] = set()

    # -- tickets

    def _ticket(self) -> Ticket:
        peers = tuple(Peer(k, name=f"worker {k}") for k in range(self.index))
        proof: dict[str, Any] = {"secret": self.secret, "key": self.key, **self._proof()}
        return Ticket(self.run, self.index, self.owner, peers, listen=self.listens, **proof)

    def _proof(self) -> dict[str, Any]:
        """What the ticket of a site says of what it proves beside secret and key."""
        member = self.channel.member(self.founded)
        return {"channel": self.channel, "member": member, "config": self.config}

    def ticket(self, site: int) -> Ticket:
        """What a site needs to take part."""
        key = "" if self.key is None else self.key.fingerprint
        head = Peer(self.index, self.address, key, name="the coordinator")
        others = [Peer(k, name=f"worker {k}") for k in range(self.index) if k != site]
        return Ticket(
            self.run,
            site,
            self.owner,
            (*others, head),
            secret=self.secret,
            incarnation=self.members[site].incarnation,
            **self._proof(),
            name=f"worker {site}",
        )

    def admit(self, site: int, key: str) -> None:
        """A site has this fingerprint from now on; called from any thread."""
        self.members[site].key = key
        self.links.meet([Peer(site, key=key, name=f"worker {site}")])

    def start(self) -> None:
        """Start all sites."""
        self.address = self.links.start()
        self.links.meet(self._ticket().peers)
        for site in range(self.index):
            self.launcher.start(self.ticket(site), None, False)

    def _arrived(self, site: int, kind: int, parts: list[Any]) -> None:
        if kind == CONTROL:
            self.control.arrived(site, parts)

    # -- gathering

    def listen(self) -> None:
        """Take messages until every site is done, or gone.

        Raises:
            RunError: a site failed or fell silent, or died and the run ends for it.
        """
        # Half as long again as the sites wait for each other: they know which node is missing.
        silence = Deadline(1.5 * self.deadline)
        start = self._patience
        interrupts = self.launch.interrupts
        while waiting := [k for k, one in enumerate(self.members) if one.busy]:
            try:
                heard = self._hear(0.2)
            except KeyboardInterrupt:  # from who watches the rounds, unless it is to be at once
                if not interrupts.ask():
                    raise
                heard = True
            self._pause()
            if heard:
                silence.touch()
                continue
            self._look_after()
            coming = not self.started or any(one.awaited for one in self.members)
            patience = start if coming else silence
            if patience.passed and silence.passed:
                raise RunError(
                    f"no worker was heard for {patience.seconds:g} s (waiting for "
                    f"{', '.join(map(self.name, waiting))}); raise runtime.deadline if a round "
                    f"takes longer; {self.launcher.log(waiting[0])}",
                    round=self.collector.rounds_done + 1,
                )
        for site in self._there():
            self._say(site, "bye")
        self._count(overhead_of(self.links))
        self.collector.folder.event("overhead", **self.overhead)
        leaving = Deadline(self.deadline)
        while staying := [k for k in self._there() if self.launcher.ended(k) is None]:
            if leaving.passed:
                for site in staying:  # all its work is in; close() ends it
                    self.collector.folder.event("worker did not leave", worker=site)
                break
            self._last_words(0.05)
        while self._last_words():
            pass

    def _last_words(self, wait: float = 0.0) -> bool:
        """Take what a site that leaves says of messages of no use; whether there was anything."""
        message = self.control.hear(wait)
        if message is not None and message.kind == "left" and message.fields["dropped"]:
            reasons = message.fields["dropped"]
            self.collector.folder.event("frames dropped", worker=message.site, reasons=reasons)
        return message is not None

    def _there(self) -> list[int]:
        """The sites that can be told something."""
        return [k for k, one in enumerate(self.members) if one.there]

    def _pause(self) -> None:
        """Where an end is asked for, ask the sites how far they are, once."""
        if not self.launch.interrupts.asked or self.begun is not None:
            return
        if not self.started:
            raise KeyboardInterrupt  # no round has begun
        self.begun = {}
        for site in self._there():
            self._say(site, "pause")

    def _hear(self, wait: float) -> bool:
        """Take one message, if one comes; returns whether one did that makes sense."""
        message, dropped = self.control.hear(wait), list(self.control.dropped)
        if message is not None:
            try:
                self._take(message)
            except WireError as error:
                dropped.append(f"from site {message.site}: {error}")
                message = None
        # Whoever goes away without a word, as one who looks for open ports does, has sent nothing.
        lines = [line for line in self.links.notices() if not line.endswith(_NOT_A_WORD)]
        for line in [*dropped, *lines]:
            if line not in self.dropped:
                self.dropped.add(line)
                self.collector.folder.event("frames dropped", worker=None, reasons=[line])
        return message is not None

    def _take(self, message: Message) -> None:
        site, kind, fields = message
        if not 0 <= site < self.index:
            raise WireError("it hosts no nodes of this run")
        one = self.members[site]
        if kind in ("saved", "part") and fields["round"] > self.job.rounds:
            raise WireError(f"a part of round {fields['round']} of {self.job.rounds}")
        if kind == "hello":
            self._hello(site, fields)
        elif kind == "report":
            check_report(fields["report"], one.ids, self.job.nodes)
            round = fields["report"]["round"]
            if round <= one.latest:
                raise WireError(f"a second report of round {round}")
            one.latest = round
            one.vain, one.overhead = 0, fields["overhead"]
            self.collector.add(fields["report"])
        elif kind == "note":
            self.collector.note(fields["event"])
        elif kind == "saved":
            self.parts.take(site, fields["round"], fields["entry"])
        elif kind == "want":
            self._say(site, "piece", **self._stock.piece(site, fields["name"], fields["at"]))
        elif kind == "part":
            self._stock.bring(site, one.ids, fields)
        elif kind == "paused" and self.begun is not None:
            self.begun[site] = fields["round"]
            self._decide()
        elif kind == "rejoined":
            self._rejoined(site, fields["since"], fields["at"])
        elif kind == "done":
            one.state, one.overhead = "done", fields["overhead"]
            self._book(one)
            self.whole &= fields["whole"]
        elif kind == "error":
            self._failed(site, fields)

    def _hello(self, site: int, fields: dict[str, Any]) -> None:
        """A site is there; once all are, or at once if it was gone, it hears where they are."""
        one = self.members[site]
        one.address, self.tells[site] = fields["address"], fields["tells"]
        if self.started:
            for other in self._there():
                self._say(other, "address", site=site, address=one.address, key=one.key)
            one.state = "running"
            self._introduce(site)
            if self.begun is not None:
                self._say(site, "pause")
        elif len(self.tells) == self.index:
            tells = [self.tells[k] for k in range(self.index)]
            self.collector.joined(self.job.gathered(tells))
            self.started = True
            for every in self.members:
                every.state = "running"
            for peer in range(self.index):
                self._introduce(peer)

    def _introduce(self, site: int) -> None:
        """Tell a site of all others."""
        gone = [k for k, one in enumerate(self.members) if not one.there]
        self._say(
            site,
            "peers",
            addresses=[
                [k, one.address, one.key] for k, one in enumerate(self.members) if one.address
            ],
            tells=[self.tells[k] for k in range(self.index)],
            gone=gone,
            awaited=[k for k in gone if self.members[k].awaited],
        )

    def _decide(self) -> None:
        """Once all have said which round they have begun, the furthest is the last: its peers
        wait for it."""
        if self.begun is not None and set(self._there()) <= self.begun.keys():
            for site in self._there():
                self._say(site, "last", round=max(self.begun.values()))

    @property
    def _stock(self) -> Depot:
        if self.depot is None:
            raise WireError("sites of this run share a disk")
        return self.depot

    # -- who is gone

    def _look_after(self) -> None:
        """Notice sites whose process has ended before they were done."""
        for site, one in enumerate(self.members):
            if not one.busy or (how := self.launcher.ended(site)) is None:
                continue
            # Its own account of what went wrong may be on the way.
            last_words = Deadline(_LAST_WORDS)
            while not last_words.passed and one.busy:
                if self._hear(_LAST_WORDS / 5):
                    last_words.touch()
            if one.busy:
                self._lose(site, how)
        for site in range(self.index) if self.channel.attests else ():
            if refused := self.links.state(site).refused:
                raise RunError(refused, phase="start" if not self.started else "running")

    def _lose(self, site: int, how: str) -> None:
        """Go on without a site, or start it again.

        Raises:
            RunError: the run ends for it.
        """
        one, folder = self.members[site], self.collector.folder
        folder.event("worker lost", worker=site, how=how)
        one.vain += 1
        again = self.on_crash == "restart" and one.vain < _IN_VAIN
        others = any(other.state != "gone" for other in self.members if other is not one)
        clients = self.job.network.clients
        hubs = np.intersect1d(one.ids, self.job.algorithm.hubs(clients))
        serves = ""
        if len(hubs):
            kind = "a server" if hubs[0] >= clients else "through which all learn"
            serves = f"it hosts node {hubs[0]}, {kind}"
        why = self.launch.remedy
        if self.on_crash == "continue" and serves:
            why = f"{serves}, without which nobody can go on; {why}"
        elif self.on_crash == "continue" and not others:
            why = f"no other is left; {why}"
        elif self.on_crash == "restart" and not again:
            why = f"it was started {one.vain} times in vain; {why}"
        elif self.on_crash == "restart" and serves and not (one.part or self.since):
            why = f"{serves}, whose model was never saved (checkpoint.every); {why}"
        elif self.on_crash != "stop" and self.started:
            why = ""
        if why:
            raise RunError(
                f"{self.name(site)} {how}; {why}; {self.launcher.log(site)}",
                round=self.collector.rounds_done + 1,
                phase="running",
            )
        first, incarnation = max(one.latest + 1, self.since + 1, one.at), one.incarnation
        saved = self.since if one.part is None else one.part["round"]
        one.state = "gone"
        self._book(one)
        if not self.collector.away(one.ids, first):
            folder.event("lost", round=first, nodes=one.ids, worker=site, why=how, saved=saved)
        self.collector.leave(one.ids)
        again = again and not self.launch.interrupts.asked
        one.awaited = again and bool(serves)
        for other in self._there():
            self._say(other, "gone", site=site, incarnation=incarnation, awaited=one.awaited)
        self.parts.seal()
        self._decide()
        if again:
            self._patience.touch()
            one.state, one.incarnation, one.source = "starting", incarnation + 1, one.part
            self.launcher.start(self.ticket(site), one.part, True)

    def _book(self, one: Member) -> None:
        """Count what the links of a site cost beyond the messages between nodes."""
        self._count(one.overhead)
        one.overhead = {}

    def _count(self, overhead: dict[str, int]) -> None:
        self.overhead.update(overhead)
        self.collector.overhead = dict(self.overhead)

    def _rejoined(self, site: int, since: int, at: int) -> None:
        one = self.members[site]
        if not one.incarnation:
            raise WireError("it was not gone")
        one.at, one.source, one.awaited = at, None, False
        self.collector.back(one.ids, at)
        self.collector.folder.event(
            "rejoined", round=at, nodes=one.ids, worker=site, **{"from": since, "at": at}
        )

    def _failed(self, site: int, said: dict[str, Any]) -> None:
        """End the run as a site has ended.

        Raises:
            RunError: what it said.
        """
        if len(said["own"]) == 3:
            field, problem, fix = said["own"]
            raise OwnCodeError(field, None, problem, fix)
        error = Diverged if said["type"] == "Diverged" else RunError
        raise error(
            said["problem"],
            node=said["node"],
            round=said["round"],
            phase=said["phase"] or f"worker {site}",
            repeats=said["repeats"],
        )

    def name(self, site: int) -> str:
        """What a site is called, and which nodes live there."""
        ids = self.members[site].ids
        apart = int(ids[1] - ids[0]) if len(ids) > 1 else 1
        ends = f"{ids[0]} to {ids[-1]}" + (f", every {apart}th" if apart > 1 else "")
        return f"worker {site} (nodes {ends})"

    def _say(self, to: int, kind: str, /, **fields: Any) -> None:
        self.control.say(to, kind, **fields)

    def close(self) -> None:
        """Stop whatever still runs and free the sockets."""
        running = [k for k in range(self.index) if self.launcher.ended(k) is None]
        for site in running:
            if self.members[site].address:
                self._say(site, "stop")
        grace = Deadline(_GRACE)
        while any(self.launcher.ended(k) is None for k in running) and not grace.passed:
            self.control.hear(0.05)  # what they still say is of no use, but must not fill up
        for site in running:
            self.launcher.kill(site)
        self.links.close(0.0)
