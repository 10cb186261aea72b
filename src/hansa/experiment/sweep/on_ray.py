"""The runs of a sweep as actors of Ray, on this machine or on the machines of a cluster.

A run's folder is written where the run is: of several machines all must see the sweep's folder.
"""

from __future__ import annotations

import importlib.util
import math
import re
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hansa.base.errors import ConfigError
from hansa.engine.runtimes.ray import check_token, probe
from hansa.engine.runtimes.ray_launcher import RayLauncher
from hansa.experiment.sweep.crew import Places, on_this_machine
from hansa.report.folder import is_run

OWN = "ray"
"""What asks for a Ray of the sweep's own on this machine, instead of a cluster's address."""
_ACTOR = "hansa.experiment.sweep.ray_run_actor:RunActor"
_READY = 180.0  # seconds in which Ray has to be there
_TRIES = 2  # of a run whose actor is lost
_PLACES = ("folder", "note", "log")


class OnRay:
    """Where the runs of a sweep live: an actor each, which Ray gives its share of a machine.

    A run whose actor is lost goes on in another, once. Settings are checked on this machine.

    Args:
        logs: the folder of Ray's account.
        threads: cores that a check may use here.
        address: of the cluster, or ``ray``.
        cores: that a Ray of our own gives away.
        each: cores that a run takes.

    Raises:
        ConfigError: Ray is not installed, or there is no such cluster.
        RunError: it does not come.
    """

    def __init__(self, logs: Path, threads: int, address: str, cores: int, each: int) -> None:
        check_address(address)
        self.logs, self.threads, self.each = logs, threads, each
        self._here: Places | None = None
        self._packets: dict[int, dict[str, Any]] = {}
        self._tries: dict[int, int] = {}
        self._recalled: set[int] = set()  # asked to end before they had a place
        own = address == OWN
        self._launcher = _Launcher(
            logs=logs,
            address="" if own else address,
            cores=max(cores, each),
            workers=1,
            share={"cpus": float(each), "gpus": 0.0},
            patience=math.inf,  # runs wait for others
        )
        try:
            self._launcher.ready(_READY)
        except BaseException as error:
            self._launcher.close()
            if isinstance(error, ConfigError):
                raise ConfigError("on", address, error.problem, error.fix) from None
            raise

    @property
    def room(self) -> int:
        """How many runs it has cores for at a time."""
        return max(1, int(self._launcher.cores // self.each))

    def start(self, site: int, packet: dict[str, Any]) -> None:
        """Start a run, or here a check, with what it is told."""
        if packet["task"] == "check":
            self._here = self._here or on_this_machine(self.logs, self.threads)
            self._here.start(site, packet)
            return
        # An actor is in a folder of its own.
        places = {key: str(Path(packet[key]).absolute()) for key in _PLACES if key in packet}
        self._packets[site] = {**packet, **places, "threads": self.each}
        self._tries[site] = 1
        self._launcher.begin(site, self._packets[site])

    def status(self, site: int) -> int | str | None:
        """How it ended; in words where its actor is lost."""
        if site not in self._packets:
            return 0 if self._here is None else self._here.status(site)
        how = self._launcher.ended(site)
        if how is None:
            return None
        if site in self._recalled:
            return -signal.SIGTERM  # as a process that had not begun to listen
        if came := re.fullmatch(r"ended with status (-?\d+)", how):
            return int(came[1])
        if self._tries[site] < _TRIES and not self._launcher.over:
            self._tries[site] += 1
            packet, folder = self._packets[site], Path(self._packets[site]["folder"])
            packet["task"] = "resume" if is_run(folder) else "begin"
            if packet["task"] == "begin":
                shutil.rmtree(folder, ignore_errors=True)  # it was lost before it was a run
            self._launcher.begin(site, packet)
            return None
        return how

    def interrupt(self, site: int) -> None:
        """Ask it to end."""
        if site in self._packets:
            self._tries[site] = _TRIES
            if not self._launcher.interrupt(site):
                self._recalled.add(site)
        elif self._here is not None:
            self._here.interrupt(site)

    def kill(self, site: int) -> None:
        """End it now."""
        if site in self._packets:
            self._tries[site] = _TRIES
            self._launcher.kill(site)
        elif self._here is not None:
            self._here.kill(site)

    def close(self) -> None:
        """End all."""
        if self._here is not None:
            self._here.close()
        self._launcher.close()


class _Launcher(RayLauncher):
    """Starts runs of a sweep as actors."""

    actor = _ACTOR

    def begin(self, site: int, packet: dict[str, Any]) -> None:
        """Have a place found, and the run begun there."""
        incarnation = int(self._starts.get(site, "0.0").partition(".")[2]) + 1
        self._starts[site] = name = f"{site}.{incarnation}"
        self._orders[name] = packet
        self._ask({"place": name})

    def _placed(self, name: str, actor: dict[str, Any]) -> None:
        if self._accepted(name, actor):
            self._ask({"host": name, "order": self._orders.pop(name)})

    def interrupt(self, site: int) -> bool:
        """Ask a run to save what it has; one without a place is not begun any more.

        Returns:
            Whether it had a place.
        """
        name = self._starts[site]
        placed = name not in self._orders
        self._ask({"interrupt" if placed else "kill": name})
        return placed


def check_address(address: str) -> None:
    """Refuse what is no Ray.

    Raises:
        ConfigError: it is not installed here, or does not answer.
    """
    if importlib.util.find_spec("ray") is None:
        fix = "pip install 'hansa[ray]'; without --on runs live in processes here"
        raise ConfigError("on", address, "needs Ray, which is not installed here", fix)
    if address == OWN:
        return
    try:
        probe(address)
        check_token()
    except ConfigError as error:
        raise ConfigError("on", address, error.problem, error.fix or "ray, or HOST:PORT") from None


def check_runs(address: str, runtimes: Sequence[str]) -> None:
    """Refuse runs that would have Ray place their nodes as well.

    Raises:
        ConfigError: one would.
    """
    if "ray" in runtimes:
        problem = "places whole runs, and runtime.name=ray the nodes of each"
        raise ConfigError("on", address, problem, "one of the two: runtime=simulate, or no --on")
