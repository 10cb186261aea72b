"""Worker processes on this machine that exchange over loopback sockets."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError, Diverged, OwnCodeError, RunError, WireError
from hansa.base.files import writing
from hansa.base.lazy import zmq
from hansa.base.telling import doing
from hansa.engine.exchange.deadline import Deadline
from hansa.engine.exchange.wire import pack_control, unpack_control
from hansa.engine.job import Job
from hansa.engine.runtimes.dealing import deal, own_secrets, remove_dealt
from hansa.engine.runtimes.runtime import Launch, Runtime, WorkerCommand, split_nodes

_GRACE = 3.0  # seconds that all workers together have to leave


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

    def check(self, nodes: int) -> None:
        if self.workers > nodes:
            raise ConfigError(
                "workers", self.workers, f"is more than the {nodes} nodes", f"1 to {nodes}"
            )

    def run(self, job: Job, launch: Launch) -> None:
        coordinator, folder = _Coordinator(self, job, launch), launch.collector.folder.path
        try:
            doing("dealing examples to workers")
            secrets = own_secrets(folder, self.workers) if self.own_secrets else None
            deal(folder, job, coordinator.parts, secrets)
            doing(f"starting {self.workers} workers")
            coordinator.start(launch.resume, launch.command)
            coordinator.listen()
        finally:
            coordinator.close()
            remove_dealt(folder)
        if not coordinator.whole:
            raise KeyboardInterrupt


class _Coordinator:
    """Starts workers, gathers what they report, and notices when one is gone.

    Models never pass through it but for the average that is evaluated.
    """

    def __init__(self, runtime: Processes, job: Job, launch: Launch) -> None:
        self.runtime, self.job, self.collector = runtime, job, launch.collector
        self.checkpoints, self.interrupts = launch.checkpoints, launch.interrupts
        self.remedy = launch.remedy
        self.parts = split_nodes(job.nodes, runtime.workers, job.servers)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket: zmq.Socket[bytes] = self.context.socket(zmq.ROUTER)
        self.socket.linger = 500
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.processes: list[subprocess.Popen[bytes]] = []
        self.logs = self.collector.folder.path / "logs"
        self.ports: dict[int, int] = {}
        self.tells: dict[int, dict[str, np.ndarray]] = {}
        self.saved: dict[int, list[dict[str, Any]]] = {}
        self.done: set[int] = set()
        self.whole = True
        self.begun: dict[int, int] | None = None
        self.names = [str(index).encode() for index in range(len(self.parts))]
        self.dropped: set[str] = set()

    def start(self, resume: Path | None, command: WorkerCommand) -> None:
        """Start all workers."""
        with writing(self.logs):
            self.logs.mkdir(exist_ok=True)
        threads = max(1, len(os.sched_getaffinity(0)) // self.runtime.workers)
        if self.job.servers and self.runtime.workers > 1:
            # A server's choice seldom falls on all workers alike: who has more takes over the
            # cores of those who wait.
            threads *= 2
        for index in range(self.runtime.workers):
            arguments: Sequence[str] = [
                *command(index),
                f"--runtime={self.runtime.model_dump_json()}",
                f"--index={index}",
                f"--address=tcp://127.0.0.1:{self.port}",
                f"--threads={threads}",
                *([f"--resume={resume}"] if resume is not None else []),
            ]
            with (self.logs / f"worker-{index}.log").open("ab") as log:
                self.processes.append(
                    subprocess.Popen(
                        arguments,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,  # Ctrl-C reaches the coordinator only
                        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
                    )
                )

    def listen(self) -> None:
        """Take messages until every worker is done.

        Raises:
            RunError: a worker failed, died or fell silent.
        """
        # Half as long again as the workers wait for each other: they know which node is missing.
        deadline = Deadline(1.5 * self.runtime.deadline)
        while len(self.done) < len(self.parts):
            try:
                heard = self.socket.poll(200) and self._hear()
            except KeyboardInterrupt:  # from who watches the rounds, unless it is to be at once
                if not self.interrupts.ask():
                    raise
                heard = True
            self._pause()
            if heard:
                deadline.touch()
                continue
            self._look_after()
            if deadline.passed:
                late = sorted(set(range(len(self.parts))) - self.done)
                raise RunError(
                    f"no worker was heard for {deadline.seconds:g} s (waiting for "
                    f"{', '.join(map(self._name, late))}); raise runtime.deadline if a round "
                    f"takes longer; their logs are in {self.logs}",
                    round=self.collector.rounds_done + 1,
                )
        for index in range(len(self.parts)):
            self._say(index, "bye")
        for index, process in enumerate(self.processes):
            try:
                process.wait(self.runtime.deadline)
            except subprocess.TimeoutExpired:
                # All its work is in; close() ends it.
                self.collector.folder.event("worker did not leave", worker=index)

    def _pause(self) -> None:
        """Where an end is asked for, ask the workers how far they are, once."""
        if not self.interrupts.asked or self.begun is not None:
            return
        if len(self.ports) < len(self.parts):
            raise KeyboardInterrupt  # no round has begun
        self.begun = {}
        for index in range(len(self.parts)):
            self._say(index, "pause")

    def _hear(self) -> bool:
        """Take one message; returns whether it came from a worker."""
        identity, *data = self.socket.recv_multipart()
        try:
            if identity not in self.names or len(data) != 1:
                raise WireError("not from a worker")
            message = unpack_control(data[0])
        except WireError as error:
            reason = f"from {identity[:32]!r}: {error}"
            if reason not in self.dropped:
                self.dropped.add(reason)
                self.collector.folder.event("frames dropped", worker=None, reasons=[reason])
            return False
        self._take(int(identity), message)
        return True

    def _take(self, index: int, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if kind == "hello":
            self.ports[index], self.tells[index] = message["port"], message["tells"]
            if len(self.ports) == len(self.parts):
                every = range(len(self.parts))
                ports, tells = [self.ports[i] for i in every], [self.tells[i] for i in every]
                self.collector.joined(self.job.gathered(tells))
                for peer in every:
                    self._say(peer, "peers", ports=ports, tells=tells)
        elif kind == "report":
            self.collector.add(message["report"])
        elif kind == "saved":
            self._seal(message["round"], message["entry"])
        elif kind == "paused" and self.begun is not None:
            self.begun[index] = message["round"]
            if len(self.begun) == len(self.parts):  # whoever is furthest decides: peers wait for it
                for peer in range(len(self.parts)):
                    self._say(peer, "last", round=max(self.begun.values()))
        elif kind == "done":
            self.done.add(index)
            self.whole &= message["whole"]
            if message["dropped"]:
                self.collector.folder.event(
                    "frames dropped", worker=index, reasons=message["dropped"]
                )
        elif kind == "error":
            if message["own"]:
                field, problem, fix = message["own"]
                raise OwnCodeError(field, None, problem, fix)
            error = Diverged if message["type"] == "Diverged" else RunError
            raise error(
                message["problem"],
                node=message["node"],
                round=message["round"],
                phase=message["phase"] or f"worker {index}",
                repeats=message["repeats"],
            )

    def _seal(self, done: int, entry: dict[str, Any]) -> None:
        """A checkpoint is whole when every worker has saved its part."""
        entries = self.saved.setdefault(done, [])
        entries.append(entry)
        if len(entries) == len(self.parts):
            entries.sort(key=lambda e: e["nodes"])
            self.collector.seal(self.checkpoints, done, self.saved.pop(done))

    def _look_after(self) -> None:
        """Raise if a worker's process has ended before it was done."""
        for index, process in enumerate(self.processes):
            status = process.poll()
            if status is None or index in self.done:
                continue
            if self.socket.poll(500):  # its own account of what went wrong is on the way
                return
            how = f"ended with status {status}"
            if status < 0:
                how = f"was killed by signal {-status} ({signal.Signals(-status).name})"
            self.collector.folder.event("worker lost", worker=index, status=status)
            raise RunError(
                f"{self._name(index)} {how}; {self.remedy}; "
                f"its log is {self.logs / f'worker-{index}.log'}",
                round=self.collector.rounds_done + 1,
                phase="running",
            )

    def _name(self, index: int) -> str:
        ids = self.parts[index]
        apart = int(ids[1] - ids[0]) if len(ids) > 1 else 1
        ends = f"{ids[0]} to {ids[-1]}" + (f", every {apart}th" if apart > 1 else "")
        return f"worker {index} (nodes {ends})"

    def _say(self, index: int, kind: str, **fields: Any) -> None:
        self.socket.send_multipart([str(index).encode(), pack_control(kind, **fields)])

    def close(self) -> None:
        """Stop whatever still runs and free the sockets."""
        running = [p for p in self.processes if p.poll() is None]
        for index, process in enumerate(self.processes):
            if process in running and index in self.ports:
                self._say(index, "stop")
        grace = Deadline(_GRACE)
        while any(p.poll() is None for p in running) and not grace.passed:
            self.socket.poll(50)
            while self.socket.poll(0):  # what they still say is of no use, but must not fill up
                self.socket.recv_multipart()
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
        self.socket.close()
        self.context.term()
