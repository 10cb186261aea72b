"""Where nodes live: what every runtime promises, and the one that keeps them all here."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, model_validator

from hansa.base.component import Component, register
from hansa.base.errors import ConfigError
from hansa.base.telling import doing
from hansa.engine.runtimes.interrupts import Interrupts, never

if TYPE_CHECKING:
    from hansa.engine.block import Block
    from hansa.engine.job import Job
    from hansa.engine.runtimes.collect import Collector
    from hansa.engine.runtimes.host import Report

WorkerCommand = Sequence[str]
"""The command line that starts what hosts workers."""


RESUME = "everything measured so far is kept, continue with --resume"


@dataclass(frozen=True)
class Launch:
    """What a run starts from and reports to.

    Attributes:
        collector: gets every block's reports.
        checkpoints: where checkpoints go.
        resume: a finished checkpoint to start from, or None.
        command: how worker processes are started, for runtimes that need some.
        interrupts: what says that the run shall end before its time.
        remedy: what is left of a run of which a worker is lost, and how to go on.
    """

    collector: Collector
    checkpoints: Path
    resume: Path | None
    command: WorkerCommand
    interrupts: Interrupts = field(default_factory=never)
    remedy: str = RESUME


class Runtime(Component, kind="runtime"):
    """Places blocks of nodes, moves their messages and keeps rounds in step."""

    def check(self, nodes: int) -> None:
        """Refuse settings that cannot work for so many nodes.

        Raises:
            ConfigError: naming field, value and fix.
        """

    def reach(self) -> None:
        """Refuse what only others can say no to, once all settings are checked, before data are
        read.

        Raises:
            ConfigError: they do not let this run in.
            RunError: they do not answer.
        """

    @abstractmethod
    def run(self, job: Job, launch: Launch) -> None:
        """Run the job to its end.

        Raises:
            RunError: a node, a worker or an exchange failed.
            KeyboardInterrupt: it was asked to end; the last round is saved.
        """


@register("simulate")
class Simulate(Runtime):
    """All nodes in this process, as one block: messages stay in memory and are counted."""

    replay: str | None = Field(
        None,
        description="the folder of a run that is done again: the same messages do not come, the "
        "same nodes come back when they did, and where nodes keep their own pace things happen in "
        "the order in which they did there",
    )

    @model_validator(mode="before")
    @classmethod
    def _no_channel(cls, settings: Any) -> Any:
        if isinstance(settings, Mapping) and "channel" in settings:
            problem = "nothing travels in simulate, so there is nobody to prove anything to"
            raise ConfigError("channel", None, problem, "runtime: processes, ray, or site files")
        return settings

    def run(self, job: Job, launch: Launch) -> None:
        from hansa.engine.runtimes.checkpoint import load_block, read_manifest, save_block
        from hansa.engine.runtimes.host import Host
        from hansa.engine.runtimes.recordings import Recording
        from hansa.report import RunFolder

        doing(f"building {job.servers or job.nodes:,} models")
        block = job.block(np.arange(job.nodes))
        launch.collector.joined(block.roster)
        start = 0
        if launch.resume is not None:
            manifest = read_manifest(launch.resume)
            load_block(block, launch.resume, manifest)
            start = manifest["round"]

        def save(block: Block, done: int) -> None:
            entry = save_block(block, launch.checkpoints, done)
            launch.collector.seal(launch.checkpoints, done, [entry])

        def report(values: Report) -> None:
            done = values["round"]
            for event in recording.happened(max(start, done - 1), done) if recording else ():
                launch.collector.note(event)
            launch.collector.add(values)

        asked, order, recorded, last = launch.interrupts, None, None, job.rounds
        recording: Recording | None = None
        if self.replay is not None:
            recording = Recording.read(RunFolder.open(self.replay), job.algorithm.own_pace)
            order, last = recording.order(job.nodes, start), recording.done
            recorded = recording.faults.until(min(last, job.rounds))
        exchange = job.exchange(recorded=recorded)

        def ends(done: int) -> bool:
            return asked.asked or done == last

        host = Host(job, block, exchange, report, save, ends, order)
        if not start:
            host.begin()
        if not host.run(start) and (asked.asked or launch.collector.rounds_done != last):
            raise KeyboardInterrupt


def split_nodes(nodes: int, workers: int, servers: int = 0) -> list[np.ndarray]:
    """Ascending ids for each worker, as even as can be.

    Peers that are neighbours are often adjacent, so adjacent ids stay together. The clients of
    servers are dealt out one by one: a server takes them in the order of their ids, and so finds
    all workers busy.
    """
    if servers:
        return [np.arange(nodes)[worker::workers] for worker in range(workers)]
    return np.array_split(np.arange(nodes), workers)


def owners(parts: list[np.ndarray]) -> list[int]:
    """The worker of each node."""
    worker_of = np.zeros(sum(map(len, parts)), dtype=np.int64)
    for worker, ids in enumerate(parts):
        worker_of[ids] = worker
    return list(map(int, worker_of))
