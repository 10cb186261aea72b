"""Processes on this machine that host sites: forked from one that is ready, or started anew."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from hansa.base import forks
from hansa.base.files import writing
from hansa.base.packets import split_packets, write_packet

_GRACE = 5.0  # seconds that the process that forks has to leave


class Forked:
    """Sites that a process forks which has loaded what they need.

    Args:
        command: starts that process.
        logs: the folder of the sites' accounts.
        threads: cores that each may use.
    """

    def __init__(self, command: Sequence[str], logs: Path, threads: int) -> None:
        self.logs = logs
        with writing(logs):
            logs.mkdir(exist_ok=True)
            log = (logs / "forks.log").open("ab")
        with log:
            self.server = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the coordinator only
                env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            )
        self._statuses: dict[int, int | None] = {}
        self._answers = _Answers(_pipe(self.server.stdout))

    def start(self, site: int, packet: dict[str, Any]) -> None:
        """Start a site with what it is told."""
        self._statuses[site] = None
        log = self.logs / f"worker-{site}.log"
        self._ask({"start": site, "name": f"worker-{site}", "log": os.fspath(log), **packet})

    def status(self, site: int) -> int | None:
        """How a site has ended, as :class:`subprocess.Popen` says it; None: it still runs."""
        for answer in self._answers.read():
            if "ended" in answer:
                self._statuses[answer["ended"]] = answer["status"]
        if self.server.poll() is not None:  # with it all that it has forked have ended
            for one, status in self._statuses.items():
                self._statuses[one] = self.server.returncode if status is None else status
        return self._statuses.get(site, 0)

    def interrupt(self, site: int) -> None:
        """Ask a site to end (SIGTERM), which it may heed as Ctrl-C."""
        self._ask({"interrupt": site})

    def kill(self, site: int) -> None:
        """End a site now."""
        self._ask({"kill": site})

    def _ask(self, packet: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # then its end is noticed
            write_packet(_pipe(self.server.stdin), packet)

    def close(self) -> None:
        """End all that still runs."""
        with contextlib.suppress(BrokenPipeError):
            _pipe(self.server.stdin).close()
        try:
            self.server.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()
        _pipe(self.server.stdout).close()


class Spawned:
    """Sites in processes that load everything themselves.

    Args:
        command: starts one, but for its number.
        logs, threads: as of :class:`Forked`.
    """

    def __init__(self, command: Sequence[str], logs: Path, threads: int) -> None:
        self.command, self.logs, self.threads = command, logs, threads
        with writing(logs):
            logs.mkdir(exist_ok=True)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, site: int, packet: dict[str, Any]) -> None:
        """Start a site with what it is told."""
        with (self.logs / f"worker-{site}.log").open("ab") as log:
            process = subprocess.Popen(
                [*self.command, f"--index={site}"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": str(self.threads)},
            )
        self.processes[site] = process
        with contextlib.suppress(BrokenPipeError), _pipe(process.stdin) as pipe:
            write_packet(pipe, packet)

    def status(self, site: int) -> int | None:
        """How a site has ended, as :class:`subprocess.Popen` says it; None: it still runs."""
        return self.processes[site].poll() if site in self.processes else 0

    def interrupt(self, site: int) -> None:
        """Ask a site to end (SIGTERM), which it may heed as Ctrl-C."""
        with contextlib.suppress(ProcessLookupError):
            self.processes[site].send_signal(signal.SIGTERM)

    def kill(self, site: int) -> None:
        """End a site now."""
        with contextlib.suppress(ProcessLookupError):
            self.processes[site].kill()

    def close(self) -> None:
        """End all that still runs."""
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()


def begin(command: Sequence[str], logs: Path, threads: int) -> Forked | Spawned:
    """What starts sites on this machine."""
    kind = Forked if forks.possible() else Spawned
    return kind(command, logs, threads)


def how_it_ended(status: int) -> str:
    """The status of a process as the end of a sentence."""
    if status >= 0:
        return f"ended with status {status}"
    return f"was killed by signal {-status} ({signal.Signals(-status).name})"


def _pipe(pipe: IO[bytes] | None) -> Any:
    assert pipe is not None
    return pipe


class _Answers:
    """The packets that are on a pipe by now, and no waiting for others."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.pipe = pipe
        os.set_blocking(pipe.fileno(), False)
        self._rest = b""

    def read(self) -> list[dict[str, Any]]:
        """What has come since."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.pipe.fileno(), 1 << 16):
                self._rest += data
        packets, self._rest = split_packets(self._rest)
        return packets
