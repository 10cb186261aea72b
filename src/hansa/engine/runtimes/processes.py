"""Worker processes on this machine that exchange over loopback sockets."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from pydantic import Field, PrivateAttr

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.telling import doing
from hansa.engine.job import Job
from hansa.engine.links.limits import LinkSettings
from hansa.engine.links.ticket import Ticket
from hansa.engine.runtimes.coordinator import Coordinator
from hansa.engine.runtimes.crashes import OnCrash
from hansa.engine.runtimes.dealing import deal, own_secrets, remove_dealt
from hansa.engine.runtimes.runtime import Launch, Runtime, split_nodes
from hansa.engine.runtimes.site import Service
from hansa.engine.runtimes.site_orders import pack_service, pack_ticket
from hansa.engine.runtimes.starting import Forked, Spawned, begin, how_it_ended
from hansa.engine.runtimes.strikes import Strike


@register("processes")
class Processes(Runtime):
    """Worker processes on this machine, each with a block of nodes; real messages over TCP."""

    workers: int = Field(2, ge=1, description="how many processes the nodes are split over")
    deadline: float = Field(
        120.0, gt=0, description="seconds of silence from a worker or peer that end the run"
    )

    own_secrets: bool = Field(
        False,
        description="every worker draws what is its nodes' own (batches, noise, keys) from a "
        "random secret that the others do not know; the run cannot be repeated then",
    )
    on_crash: OnCrash = Field(
        "stop",
        description="what becomes of the run when a worker process dies: stop = it ends, and can "
        "be resumed; continue = the others go on without its nodes; restart = it is started again "
        "from its last checkpoint and takes part from a later round on",
    )
    _strikes: tuple[Strike, ...] = PrivateAttr(())

    def check(self, nodes: int) -> None:
        if self.workers > nodes:
            raise ConfigError(
                "workers", self.workers, f"is more than the {nodes} nodes", f"1 to {nodes}"
            )

    def run(self, job: Job, launch: Launch) -> None:
        folder = launch.collector.folder.path
        parts = split_nodes(job.nodes, self.workers, job.servers)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        threads = max(1, (cores or 1) // self.workers)
        if job.servers and self.workers > 1:
            # A server's choice seldom falls on all workers alike: who has more takes over the
            # cores of those who wait.
            threads *= 2
        doing(f"starting {self.workers} workers")
        processes = begin(launch.command, folder / "logs", threads)
        coordinator: Coordinator | None = None
        try:
            secrets = own_secrets(folder, self.workers) if self.own_secrets else None
            deal(folder, job, parts, secrets)
            launcher = _Launcher(self, processes, launch, threads)
            coordinator = Coordinator(
                job,
                launch,
                self.workers,
                self.deadline,
                launcher,
                self.on_crash,
                self._links,
            )
            coordinator.start()
            coordinator.listen()
        finally:
            try:
                if coordinator is not None:
                    coordinator.close()
            finally:
                processes.close()
                remove_dealt(folder)
        if not coordinator.whole:
            raise KeyboardInterrupt

    @property
    def _links(self) -> LinkSettings:
        """Only those links are opened that are used: there are many pairs of workers."""
        return LinkSettings(eager=False, max=max(256, self.workers))


class _Launcher:
    """Starts the workers of a run as processes of this machine."""

    def __init__(
        self, runtime: Processes, processes: Forked | Spawned, launch: Launch, threads: int
    ) -> None:
        self.processes = processes
        self.strikes = [asdict(one) for one in (*launch.strikes, *runtime._strikes)]
        self._service = Service(
            deadline=runtime.deadline,
            checkpoints=launch.checkpoints,
            threads=threads,
            resume=launch.resume,
            careful=runtime.on_crash != "stop",
            links=runtime._links,
        )

    def start(self, ticket: Ticket, part: dict[str, Any] | None, rejoins: bool) -> None:
        """Start a site."""
        service = pack_service(self._service) | {"part": part, "rejoins": rejoins}
        packet = {"ticket": pack_ticket(ticket), "service": service, "strikes": self.strikes}
        self.processes.start(ticket.site, packet)

    def ended(self, site: int) -> str | None:
        """How a site has ended."""
        status = self.processes.status(site)
        return None if status is None else how_it_ended(status)

    def kill(self, site: int) -> None:
        """End a site now."""
        self.processes.kill(site)

    def log(self, site: int) -> str:
        """Where its account is."""
        return f"its log is {self.processes.logs / f'worker-{site}.log'}"
