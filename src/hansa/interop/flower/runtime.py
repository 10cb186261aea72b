"""Where nodes live in a Flower app: the servers here, each client in its own Flower node."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from flwr.serverapp import Grid
from pydantic import PrivateAttr
from torch import Tensor

from hansa.base.component import register
from hansa.base.errors import CheckpointError, ConfigError
from hansa.engine import Asked, Block, Job, Launch, Runtime
from hansa.engine.runtimes.checkpoint import save_block
from hansa.engine.runtimes.host import Host, Report
from hansa.engine.wrapper import Wrapper
from hansa.interop.flower.common import figures
from hansa.interop.flower.members import Members
from hansa.interop.flower.posts import ServerPost
from hansa.interop.flower.roll import Roll

_UNSEEN = (
    "buffers: local: clients' models stay with them, and Flower asks only those who are invited; "
    "so what is measured is the servers' models, whose statistics are those of the start"
)


class Unseen(Wrapper):
    """An algorithm whose clients are not asked for what is measured."""

    def measured(self, block: Block, t: int) -> Generator[Asked, Any, tuple[np.ndarray, Tensor]]:
        yield from ()
        return block.models()


@dataclass(frozen=True)
class Line:
    """What a run needs of Flower.

    Attributes:
        wait: seconds in which all clients must be there.
        timeout: seconds in which a client must answer.
        settings: the run file's settings, for the clients.
        after: is given the number of rounds done and the servers' block.
    """

    grid: Grid
    wait: float
    timeout: float
    settings: str
    after: Callable[[Job, Block, int], None]


@register("flower")
class FlowerRuntime(Runtime):
    """Clients in Flower's nodes. It is started by Flower, not by a run file."""

    _line: Line | None = PrivateAttr(None)

    @classmethod
    def over(cls, line: Line) -> Self:
        """A runtime on a line to Flower."""
        runtime = cls()
        runtime._line = line
        return runtime

    def check(self, nodes: int) -> None:
        if self._line is None:
            raise ConfigError("runtime", None, "is started by Flower", "flwr run; or simulate")

    def run(self, job: Job, launch: Launch) -> None:
        line = self._line
        assert line is not None  # check has looked
        if launch.resume is not None:
            problem = "its clients' state was with Flower's nodes, so it cannot be resumed"
            raise CheckpointError(f"{launch.resume}: this run was one of Flower's; {problem}")
        clients = job.nodes - job.servers
        block = job.block(np.arange(clients, job.nodes))
        if job.presence.charged(block) is not None:
            problem = "has batteries: whether a client is awake only the client would know"
            raise ConfigError("clock", type(job.clock).name, problem, "a clock without batteries")
        if job.faults is not None and job.faults.lossy:
            problem = "takes messages away, and a client's letter is whole or does not come at all"
            raise ConfigError("faults", None, problem, "runtime: simulate or processes")
        if getattr(job.algorithm, "buffers", "average") == "local":
            launch.collector.folder.event("remark", text=_UNSEEN)
            job = replace(job, algorithm=Unseen(algorithm=job.algorithm))
        members = Members(line.grid, clients, line.wait, line.timeout)
        launch.collector.joined(job.roster)
        known = {"settings": line.settings, "common": figures(job)}
        post = ServerPost(clients, job.nodes, members.deliver, known)
        roll = Roll(clients)

        def report(servers: Report) -> None:
            replies = post.close(servers["round"] - 1) if servers["round"] else {}
            launch.collector.add(roll.report(servers, replies))
            launch.collector.add(servers)
            line.after(job, block, servers["round"])

        def save(block: Block, done: int) -> None:
            entry = save_block(block, launch.checkpoints, done)
            launch.collector.seal(launch.checkpoints, done, [entry])

        host = Host(job, block, job.exchange(post), report, save)
        host.begin()
        host.run()
