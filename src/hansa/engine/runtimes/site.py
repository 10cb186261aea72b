"""One site: a process that hosts one block, in whatever runtime, and talks to the others."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.lazy import torch
from hansa.engine.block import Block
from hansa.engine.exchange.carrier import no_moment
from hansa.engine.exchange.deadline import Deadline
from hansa.engine.exchange.post import SitePost
from hansa.engine.exchange.wire import Buffer
from hansa.engine.links.assembly import DATA
from hansa.engine.links.limits import LinkSettings
from hansa.engine.links.links import Links
from hansa.engine.links.ticket import Peer, Ticket
from hansa.engine.party import Party
from hansa.engine.runtimes.checkpoint import load_block, read_manifest, save_block
from hansa.engine.runtimes.control import Control, Message, overhead_of
from hansa.engine.runtimes.host import Host
from hansa.engine.runtimes.ledgers import Ledger, Stopped

Moment = Callable[[str, int], None]
"""Is told that ``training``, ``sending``, ``receiving`` or ``checkpointing`` begins in a round,
from 0."""
_FLUSH = 10.0  # seconds that the last words of a site may take


@dataclass(frozen=True)
class Service:
    """How a site takes part in a run.

    Attributes:
        deadline: seconds of silence of a peer, or of all of them.
        deadlines: those of single peers, by number, where they are shorter.
        checkpoints: where this site's parts of checkpoints go.
        threads: cores that it may use.
        resume: a finished checkpoint to start from, or None.
        part: this site's own part of a checkpoint, as a manifest with its ``folder``, for a site
            that was gone; None: there is none, or it starts with the others.
        rejoins: it was gone, and the others went on meanwhile.
        careful: peers go on where one is gone, so what follows from that is reported first.
        links: limits and times of its links.
    """

    deadline: float
    checkpoints: Path
    threads: int = 1
    resume: Path | None = None
    part: dict[str, Any] | None = None
    rejoins: bool = False
    careful: bool = False
    links: LinkSettings = field(default_factory=LinkSettings)
    deadlines: Mapping[int, float] = field(default_factory=dict)


class Site:
    """A site's links, and what goes over them: its nodes' messages, and control messages.

    Attributes:
        index: its number.
        address: where it listens.
        ledger: where its reports go.
    """

    def __init__(
        self,
        ticket: Ticket,
        service: Service,
        ledger: Callable[[Site], Ledger],
        shaping: Any = None,
        moment: Moment = no_moment,
    ) -> None:
        self.ticket, self.index, self.deadline = ticket, ticket.site, service.deadline
        self.address = ""
        self.ledger: Ledger
        self.control = Control(lambda site: self.ledger.may(site))
        self.post = SitePost(
            ticket.site, ticket.owner, service.deadline, lambda: self.ledger.alive(), moment=moment
        )
        for peer, seconds in service.deadlines.items():
            self.post.deadlines[peer] = Deadline(seconds)
        if service.careful:
            self.post.noting = lambda event: self.ledger.note(event)
        self.links = Links(ticket, service.links, self._arrived, self._changed, shaping)
        self.control.carrier = self.links
        self.post.connect(self.links)
        self.ledger = ledger(self)

    def start(self, ear: socket.socket | None = None) -> None:
        """Listen, and reach for those whose addresses are known.

        Args:
            ear: listens already, where the ticket says.

        Raises:
            ConfigError: the port is in use.
        """
        self.address = self.links.start(ear)
        self.meet(peer for peer in self.ticket.peers if peer.address or self.ticket.relays)

    def meet(self, peers: Iterable[Peer]) -> None:
        """Learn where others are."""
        self.links.meet(list(peers))

    def say(self, to: int, kind: str, /, **fields: Any) -> None:
        """Tell another site something."""
        self.control.say(to, kind, **fields)

    def hear(self, wait: float = 0.0) -> Message | None:
        """The next control message, if one comes within so many seconds."""
        return self.control.hear(wait)

    def rest(self) -> None:
        """Wait a moment, or until something happens."""
        self.post.rest()

    def overhead(self) -> dict[str, int]:
        """Bytes beyond the messages between nodes, so far, by cause; ``sent`` and ``received``."""
        return overhead_of(self.links)

    def close(self) -> None:
        """Say what is to be said yet, and let go of everything."""
        self.links.close(_FLUSH)
        self.post.close()

    def _arrived(self, site: int, kind: int, parts: list[Buffer]) -> None:
        if kind == DATA:
            self.post.arrived(site, parts)
        else:
            self.control.arrived(site, parts)
            self.post.wake()

    def _changed(self) -> None:
        self.post.wake()
        self.control.wake()


def serve(
    ticket: Ticket,
    build: Callable[[], Party],
    service: Service,
    ledger: Callable[[Site], Ledger],
    shaping: Any = None,
    moment: Callable[[Site], Moment] | None = None,
    ear: socket.socket | None = None,
) -> int:
    """Host the block of a site to the end of the run; returns an exit status.

    Args:
        build: makes what takes part; called once a failure can be told.
        ledger: makes what its reports go to.
        shaping: what delays and hurts what this site sends, or None.
        moment: makes what is told of the moments of a run.
        ear: listens already, where the ticket says.

    Returns:
        0: the run is over; 1: this site failed; 3: it was asked to stop.
    """
    moments: list[Moment] = []
    site = Site(
        ticket,
        service,
        ledger,
        shaping,
        lambda what, round: moments[0](what, round),
    )
    moments.append(no_moment if moment is None else moment(site))
    try:
        site.start(ear)
        site.ledger.greet()
        torch.set_num_threads(service.threads)
        _play(site, build, service, moments[0])
        return 0
    except Stopped as stopped:
        mark = ticket.channel.mark if ticket.channel is not None else ""
        head = f"[tee: {mark}] " if mark else ""
        print(f"{head}site {site.index} stops: {stopped}", file=sys.stderr)  # noqa: T201 - its log
        return 3
    except Exception as error:  # noqa: BLE001 - whatever it is, who gathers must be told
        site.ledger.failed(error)
        return 1
    finally:
        site.close()


def _play(site: Site, build: Callable[[], Party], service: Service, moment: Moment) -> None:
    """Take the block of a site through the run."""
    party, ledger, ticket = build(), site.ledger, site.ticket
    job = party.joins(ledger.join(party.tells()))
    job.workers = len(ticket.sites)
    owner = np.asarray(ticket.owner)
    block = job.block(np.flatnonzero(owner == site.index))
    block.workers = job.workers
    start, sealer = 0, ticket.sealer()
    if service.part is not None:
        load_block(block, Path(service.part["folder"]), service.part, sealer)
        start = int(service.part["round"])
    elif service.resume is not None:
        manifest = read_manifest(service.resume)
        if sealer is not None:
            sealer.check(service.resume, manifest)
        load_block(block, service.resume, manifest, sealer)
        start = int(manifest["round"])

    def save(block: Block, done: int) -> None:
        if service.careful:
            ledger.settled()  # what it is to go on from follows from what it has reported
        entry = save_block(block, service.checkpoints, done, sealer)
        moment("checkpointing", done - 1)
        ledger.saved(done, entry)

    if service.careful and job.checkpoint.every and not start and service.part is None:
        ledger.saved(0, save_block(block, service.checkpoints, 0, sealer))
    begins = ledger.rejoin(start) if service.rejoins else start
    if service.rejoins and ledger.ends(begins):
        ledger.done(False)
        return
    ledger.begins(begins)
    site.post.unasked, site.post.needs_all = job.algorithm.own_pace, job.algorithm.needs_all
    exchange = job.exchange(site.post)
    every = ticket.channel.every if ticket.channel is not None else 0

    def ends(done: int) -> bool:
        if every and done and done % every == 0:
            site.links.attest()
        return ledger.ends(done)

    host = Host(job, block, exchange, ledger.report, save, ends, moment=moment)
    if not begins:
        host.begin()
    ledger.done(host.run(begins))
