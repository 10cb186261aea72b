"""Runs a site: meets the others, trains with them, and leaves a folder of its own."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.base.threads import cores
from hansa.engine import BySite, Job
from hansa.engine.links.addresses import listening
from hansa.engine.links.limits import LinkSettings
from hansa.engine.party import Party, Tells
from hansa.engine.runtimes.checkpoint import discard_unfinished
from hansa.engine.runtimes.interrupts import Interrupts
from hansa.engine.runtimes.own_ledger import Meeting, OwnLedger, as_error
from hansa.engine.runtimes.own_secrets import drawn_secrets, keep_secrets, remove_secrets
from hansa.engine.runtimes.partial import PartialCollector
from hansa.engine.runtimes.site import Service, Site, serve
from hansa.experiment.environment import describe_environment, describe_start
from hansa.experiment.hosting import Hosting, begun, hosted, reopened
from hansa.experiment.inputs import INPUTS, check_inputs, describe_inputs
from hansa.experiment.outlook import describe_topology
from hansa.experiment.progress import RunProgress
from hansa.experiment.run import summary_facts
from hansa.experiment.run_model import write_signature
from hansa.experiment.runfile import RunFile
from hansa.experiment.sites.entry import Entry
from hansa.experiment.sites.parties import own_source
from hansa.experiment.sites.site_file import SiteFile
from hansa.experiment.sites.status import SITE, note_peers
from hansa.experiment.start import Start
from hansa.report import RunFolder
from hansa.report.scores import declare


def run_site(site: SiteFile, progress: RunProgress, report: bool = True) -> RunFolder:
    """Take a site through its run, from its start or from where it was left.

    Raises:
        ConfigError: a setting that cannot work, too few sites in time, or a refusal by most.
        DataError: the examples are missing or damaged.
        RunError: something failed on the way; what was measured is in the folder.
        KeyboardInterrupt: it was asked to end; the last round is saved.
    """
    path = site.folder.expanduser()
    known = (path / "config.yaml").exists()
    secret = drawn_secrets(path, 1)[0] if site.own_streams == "secret" else None
    entry = Entry.of(site, secret)
    runs: list[_SiteRun] = []
    try:
        with ExitStack() as stack:
            ear = listening(site.listen) if site.listen else None
            if ear is not None:
                stack.callback(ear.close)
            entry.check_tells()
            chosen = _chosen(entry)
            progress.begin(chosen, path)
            start = Start()
            if known:
                _check_session(path, entry)
                _check_unfinished(path)
                config = {k: v for k, v in chosen.dump().items() if k != "plugins"}
                again = stack.enter_context(reopened(path, type(chosen), config))
                start = Start.of(again.folder, chosen)
                start.enter(again)
                hosting = stack.enter_context(
                    hosted(again.folder, chosen.verb, report, chosen.sinks, start.done)
                )
            else:
                environment = describe_start(chosen.seed)
                hosting = stack.enter_context(begun(path, chosen, environment, report))
            if secret is not None:
                keep_secrets(path, [secret])
            runs.append(_SiteRun(entry, chosen, hosting, start, progress, known, ear))
            runs[0].play()
    except BaseException:
        if not known and not any(run.met for run in runs):  # nothing to keep
            shutil.rmtree(path, ignore_errors=True)
        raise
    return hosting.folder


@dataclass
class _SiteRun:
    """One start of a site.

    Attributes:
        ear: listens for the others; None: this site only dials.
        met: it has met the others, so that there is something to keep.
        before: events of earlier starts.
    """

    entry: Entry
    chosen: RunFile
    hosting: Hosting
    start: Start
    progress: RunProgress
    again: bool
    ear: socket.socket | None
    met: bool = False
    before: int = 0
    ledger: OwnLedger | None = None
    collector: PartialCollector | None = None
    sealer: Any = None

    def play(self) -> None:
        """To the end, or until it was asked to end."""
        folder, site = self.hosting.folder, self.entry.file
        self.before = len(folder.events())
        self.hosting.facts = self._facts
        incarnation = self._count()
        interrupts = Interrupts(lambda: self.collector is None or self.collector.safe)
        patience = site.patience
        meeting = Meeting(
            patience.start, site.least or len(self.entry.names), patience.peer, self.start.done
        )
        waits = self.entry.waits()
        service = Service(
            deadline=max(waits.values()),
            deadlines=waits,
            checkpoints=folder.path / "checkpoints",
            threads=cores(),
            resume=self.start.checkpoint,
            rejoins=True,
            careful=True,
            links=LinkSettings(),
        )

        def ledger(site: Site) -> OwnLedger:
            self.ledger = OwnLedger(
                site, meeting, self._recorder, interrupts, self.progress.tell, self._look
            )
            return self.ledger

        try:
            with interrupts.heard():
                told = self.entry.file.channel.alone(folder.path)
                ticket = replace(self.entry.ticket(incarnation), member=told)
                self.sealer = ticket.sealer()
                network, streams = self.chosen.network, Streams(self.chosen.seed)
                shaping = network and network.between(streams, ticket.site, ticket.owner)
                serve(ticket, self._party, service, ledger, shaping, ear=self.ear)
            assert self.ledger is not None
            if self.ledger.error is not None:
                raise as_error(self.ledger.error)
            if not self.ledger.whole:
                raise KeyboardInterrupt
            remove_secrets(folder.path)
        finally:
            self._note_overhead()
            discard_unfinished(folder.path / "checkpoints")
            if self.collector is not None:
                self.collector.close()

    def _party(self) -> Party:
        """Who takes part, once the others have let this site in: its examples are read now."""
        return _Meeting(self.entry.party, self._open)

    def _open(self, job: Job) -> Job:
        """Once all have told: the rest of what the folder says, and what records from now on."""
        folder = self.hosting.folder
        parts = [job.parts[c] for c in job.clients_here.tolist()]
        if self.again:
            check_inputs(folder, self.chosen, job.dataset, parts)
        environment = {**describe_environment(job), **folder.marks}
        environment[INPUTS] = describe_inputs(self.chosen, job.dataset, parts)
        folder.environment = environment
        folder.write_json("environment.json", environment)
        declare(environment.get("metrics") or {})
        self.collector = PartialCollector(job, folder, len(self.entry.file.nodes))
        self.collector.sealer = self.sealer
        if self.start.checkpoint is not None:
            self.collector.restore(self.start.manifest)
        self.collector.joined(job.roster)
        describe_topology(job, folder)
        if job.servers:
            folder.write_json("partition.json", {"servers": job.servers})
        self.chosen.leave(job, folder)
        write_signature(self.chosen, job.dataset, folder)
        folder.event("met", told=list(self.entry.needs), sites=list(self.entry.names))
        self.collector.progress = self._tell
        self.met = True
        return job

    def _tell(self, done: int, figures: dict[str, float]) -> None:
        self.progress(done, {**figures, "bytes_sent": float(self._recorder().bytes_sent)})

    def _recorder(self) -> PartialCollector:
        assert self.collector is not None, "a site records only after it has met the others"
        return self.collector

    def _look(self, site: Site, ledger: OwnLedger) -> None:
        """Note who is there."""
        note_peers(self.hosting.folder, site, ledger)

    def _count(self) -> int:
        """How many times the site was started in this run before; from now on once more."""
        folder = self.hosting.folder
        before = folder.read_json(SITE) or {}
        count = int(before.get("starts", 0))
        folder.write_json(SITE, {**self.entry.facts(), "starts": count + 1})
        return count

    def _overhead(self) -> dict[str, int]:
        """Bytes beyond the messages between nodes, by cause, of all starts of this site."""
        total: dict[str, int] = {} if self.ledger is None else dict(self.ledger.site.overhead())
        for event in self.hosting.folder.events()[: self.before]:
            if event["kind"] == "overhead":
                for name in ("sent", "received"):
                    total[name] = total.get(name, 0) + int(event[name])
        return total

    def _note_overhead(self) -> None:
        if self.ledger is not None:
            spent = self.ledger.site.overhead()
            sent, received = spent.pop("sent"), spent.pop("received")
            event = {"site": self.entry.site, "sent": sent, "received": received, "causes": spent}
            self.hosting.folder.event("overhead", **event)

    def _facts(self) -> Mapping[str, Any]:
        """What the summary says."""
        facts = self.entry.facts()
        own = {name: facts[name] for name in ("session", "site", "name")}
        base = {"partial": True, **own, "nodes_here": facts["nodes"]}
        base["overhead_bytes"] = self._overhead().get("sent", 0)
        if self.collector is None:
            return {"nodes": self.chosen.nodes, "rounds": 0, **base}
        return {**summary_facts(self.chosen, self.collector), **base}


@dataclass
class _Meeting:
    """A party, whose job is shown to who records once it is whole."""

    party: Party
    opened: Callable[[Job], Job]

    def tells(self) -> Tells:
        """What the party tells."""
        return self.party.tells()

    def joins(self, tells: Sequence[Tells]) -> Job:
        """Its job."""
        return self.opened(self.party.joins(tells))


def _chosen(entry: Entry) -> RunFile:
    """The run as this site does it: with its own data, and without a coordinator."""
    changes: dict[str, Any] = {"runtime": BySite(channel=entry.file.channel)}
    if not entry.file.data.share:
        clients = bool(set(entry.file.nodes) & set(range(entry.run.nodes)))
        changes["data"] = own_source(entry.run, entry.file, clients)
    return entry.run.model_copy(update=changes)


def _check_session(path: Path, entry: Entry) -> None:
    """Refuse the folder of another run, or of another site.

    Raises:
        ConfigError: it is one.
    """
    before = RunFolder.open(path).read_json(SITE) or {}
    facts = entry.facts()
    for name in ("session", "site", "nodes"):
        if before.get(name) != facts[name]:
            problem = f"holds another run: its {name} is {before.get(name)!r} there"
            fix = "another out, or the session that it was begun with"
            raise ConfigError("out", str(path), problem, fix)


def _check_unfinished(path: Path) -> None:
    """Refuse to go on where this site has finished.

    Raises:
        ConfigError: it has.
    """
    if (RunFolder.open(path).summary or {}).get("status") == "finished":
        problem = "holds this site's run, which has finished"
        raise ConfigError("out", str(path), problem, "a new run: another session at all sites")
