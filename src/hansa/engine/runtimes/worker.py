"""A worker process: hosts one block, talks to its peers, and reports to the coordinator."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hansa.base.errors import OwnCodeError, RunError
from hansa.base.lazy import torch, zmq
from hansa.engine.block import Block
from hansa.engine.exchange.mesh import Mesh
from hansa.engine.exchange.wire import pack_control, unpack_control
from hansa.engine.job import Job
from hansa.engine.runtimes.checkpoint import load_block, read_manifest, save_block
from hansa.engine.runtimes.host import Host
from hansa.engine.runtimes.runtime import owners, split_nodes

_POLL_MS = 200


class Stopped(BaseException):
    """The coordinator asked this worker to stop: no error, so nothing handles it."""


class Control:
    """The line to the coordinator, which can end this worker or all workers after one round.

    When the coordinator is gone this process ends by itself (see :mod:`hansa.base.child`).

    Attributes:
        begun: rounds that this worker has begun: it may have told its peers of them.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: str, index: int) -> None:
        self.socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        self.socket.identity = str(index).encode()
        self.socket.linger = 2000
        self.socket.connect(address)
        self.begun = 0
        self._paused = False
        self._last: int | None = None

    def send(self, kind: str, **fields: Any) -> None:
        """Tell the coordinator something."""
        self.socket.send(pack_control(kind, **fields))

    def expect(self, kind: str) -> dict[str, Any]:
        """Wait for a message of this kind."""
        while True:
            message = self._hear(_POLL_MS)
            if message is None:
                continue
            if message["kind"] == kind:
                return message
            raise Stopped(f"the coordinator said {message['kind']!r}")

    def alive(self) -> None:
        """Raise if the coordinator said stop; answer whatever else it asked."""
        while self.socket.poll(0):
            message = self._hear(0)
            if message is not None:
                raise Stopped(f"the coordinator said {message['kind']!r}")

    def ends(self, done: int) -> bool:
        """Whether all workers end after ``done`` rounds; else the next round counts as begun.

        Once an end was asked for, this waits until it is known who has begun which round.
        """
        self.alive()
        while self._paused:
            if (message := self._hear(_POLL_MS)) is not None:
                raise Stopped(f"the coordinator said {message['kind']!r}")
        if self._last is not None and done >= self._last:
            return True
        self.begun = done + 1
        return False

    def _hear(self, wait: int) -> dict[str, Any] | None:
        """A message that the caller has to take; None if there is none or it was for this."""
        if not self.socket.poll(wait):
            return None
        message = unpack_control(self.socket.recv())
        if message["kind"] == "pause":
            self._paused = True
            self.send("paused", round=self.begun)
        elif message["kind"] == "last":
            self._paused, self._last = False, message["round"]
        else:
            return message
        return None


def serve(
    build: Callable[[], Job],
    *,
    address: str,
    index: int,
    workers: int,
    deadline: float,
    checkpoints: Path,
    resume: Path | None,
    threads: int,
) -> int:
    """Host the block of worker ``index`` to the end of the run; returns an exit status.

    Args:
        build: makes the job; called once the coordinator can be told of a failure.
        address: the coordinator's socket.
        threads: how many cores this worker may use.
    """
    torch.set_num_threads(threads)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    control = Control(context, address, index)
    mesh: Mesh | None = None
    try:
        job = build()
        job.workers = workers
        parts = split_nodes(job.nodes, workers, job.servers)
        owner = owners(parts)
        mesh = Mesh(context, index, owner, deadline, control.alive)
        control.send("hello", index=index, port=mesh.port, tells=job.tells())
        peers = control.expect("peers")
        mesh.connect(peers["ports"])
        job.joined = job.gathered(peers["tells"])
        block = job.block(parts[index])
        block.workers = workers
        start = 0
        if resume is not None:
            manifest = read_manifest(resume)
            load_block(block, resume, manifest)
            start = manifest["round"]

        def save(block: Block, done: int) -> None:
            entry = save_block(block, checkpoints, done)
            control.send("saved", round=done, entry=entry)

        def report(values: dict[str, Any]) -> None:
            control.send("report", report=values)

        control.begun = start + 1
        exchange = job.exchange(mesh)
        host = Host(job, block, exchange, report, save, control.ends)
        if not start:
            host.begin()
        whole = host.run(start)
        control.send("done", index=index, dropped=mesh.dropped, whole=whole)
        control.expect("bye")  # peers may still need what this worker has sent
        return 0
    except Stopped as stopped:
        print(f"worker {index} stops: {stopped}", file=sys.stderr)  # noqa: T201 - its log
        return 3
    except Exception as error:  # noqa: BLE001 - whatever it is, the coordinator must be told
        traceback.print_exc()
        failure = error if isinstance(error, RunError) else RunError(str(error), phase="start")
        control.send(
            "error",
            index=index,
            problem=failure.problem,
            node=failure.node,
            round=failure.round,
            phase=failure.phase,
            repeats=failure.repeats,
            own=[error.field, error.problem, error.fix] if isinstance(error, OwnCodeError) else [],
            type=type(error).__name__,
        )
        return 1
    finally:
        if mesh is not None:
            mesh.close()
        control.socket.close()
        context.term()
