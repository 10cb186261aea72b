"""Worker processes on this machine that exchange over loopback sockets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from hansa.base.component import register
from hansa.base.telling import doing
from hansa.base.threads import cores
from hansa.engine.job import Job
from hansa.engine.links.keys import Key
from hansa.engine.links.ticket import Ticket
from hansa.engine.runtimes.coordinator import Coordinator
from hansa.engine.runtimes.runtime import Launch
from hansa.engine.runtimes.site import Service
from hansa.engine.runtimes.site_orders import pack_service, pack_ticket
from hansa.engine.runtimes.starting import Forked, Spawned, begin, how_it_ended
from hansa.engine.runtimes.workers import WorkerRuntime


@register("processes")
class Processes(WorkerRuntime):
    """Worker processes on this machine, each with a block of nodes; real messages over TCP."""

    def run(self, job: Job, launch: Launch) -> None:
        threads = max(1, cores() // self.workers)
        if job.servers and self.workers > 1:
            # A server's choice seldom falls on all workers alike: who has more takes over the
            # cores of those who wait.
            threads *= 2
        doing(f"starting {self.workers} workers")
        processes = begin(launch.command, launch.collector.folder.path / "logs", threads)
        launcher = _Launcher(self, processes, launch, threads)

        def meet() -> Coordinator:
            coordinator = self._coordinator(job, launch, launcher)
            launcher.admit = coordinator.admit
            return coordinator

        self._host(job, launch, launcher, meet)


class _Launcher:
    """Starts the workers of a run as processes of this machine."""

    def __init__(
        self, runtime: Processes, processes: Forked | Spawned, launch: Launch, threads: int
    ) -> None:
        self.processes, self._keyed = processes, runtime.channel.keyed
        self.admit: Callable[[int, str], None]
        self.strikes = [asdict(one) for one in runtime._strikes]
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
        if self._keyed:  # it goes by a pipe, as a secret would
            key = Key.generate("worker")
            self.admit(ticket.site, key.fingerprint)
            packet["key"] = key.pem
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

    def close(self) -> None:
        """End all that still runs."""
        self.processes.close()
