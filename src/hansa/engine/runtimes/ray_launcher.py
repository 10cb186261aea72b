"""Starts the sites of a run as actors of Ray, through a process that alone speaks to it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from hansa import __version__
from hansa.base.errors import ConfigError, RunError
from hansa.base.files import writing
from hansa.base.packets import read_packet, write_packet
from hansa.engine.exchange.deadline import Deadline
from hansa.engine.links.addresses import joined
from hansa.engine.links.ticket import Ticket
from hansa.engine.runtimes.checkpoint import read_manifest
from hansa.engine.runtimes.dealing import dealt_to
from hansa.engine.runtimes.runtime import Launch
from hansa.engine.runtimes.site import Service
from hansa.engine.runtimes.site_orders import pack_service, pack_ticket
from hansa.engine.runtimes.strikes import Strike
from hansa.engine.runtimes.supplies import Depot, part_limit

_DRIVER = (sys.executable, "-m", "hansa.engine.runtimes.ray_driver")
_GRACE = 20.0  # seconds that Ray has to end
_LOOK = 0.1  # seconds between two looks
_LONGEST = 44  # characters of a folder in which Ray's sockets have names that the system takes
_REFUSED = b"InvalidAuthToken"  # what Ray's library says of a token, again and again
_SLOW = "timed out during startup"
"""What it says where a machine is so busy that half a minute is not enough."""
_STARTS = 3  # of a Ray of our own, before that is believed
_LAST_LINE = 300  # characters


class RayLauncher:
    """Starts sites as actors.

    Args:
        logs: the folder where what Ray and all actors print is kept.
        address: of a cluster; empty: a Ray of this run's own.
        cores: that such a Ray gives away.
        workers: how many actors there will be.
        share: what each takes of a machine, ``cpus`` and ``gpus``.
        patience: seconds in which Ray has to find a place for an actor.

    Attributes:
        admit: is told the fingerprint of a site's key, before that site is told anything.
        depot: files for sites.
    """

    actor: ClassVar[str] = "hansa.engine.runtimes.ray_actor:SiteActor"
    """``module:class`` of what is placed."""

    def __init__(
        self,
        logs: Path,
        address: str,
        cores: int,
        workers: int,
        share: Mapping[str, float],
        patience: float,
    ) -> None:
        self.address = address
        self.log_file = logs / "ray.log"
        with writing(logs):
            logs.mkdir(exist_ok=True)
            log = self.log_file.open("ab")
        self.folder = "" if address else _short_folder()
        self.admit: Callable[[int, str], None]
        self.depot: Depot
        self._writing = threading.Lock()
        self._orders: dict[str, dict[str, Any]] = {}
        self._starts: dict[int, str] = {}
        self._ended: dict[str, str] = {}
        self._connected: dict[str, Any] | None
        self._changed = threading.Condition()
        with log:
            self._log_begins = log.tell()
        self._connect = {
            **share,
            "address": address,
            "cores": cores,
            "workers": workers,
            "folder": self.folder,
            "patience": patience,
            "actor": self.actor,
        }
        self._begin()

    # -- Ray itself

    def _begin(self) -> None:
        """Start the process that speaks to Ray."""
        self._connected, self._over = None, False
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                _DRIVER,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches this process only
                env=_environment(self.address, self.folder),
            )
        self._requests: Any = self.process.stdin
        self._ask({"connect": self._connect})
        self._reader = threading.Thread(target=self._listen, name="hansa-ray", daemon=True)
        self._reader.start()

    def _end(self) -> None:
        """End that process, and whatever it has started here."""
        assert self.process.stdout is not None
        with self._writing, contextlib.suppress(BrokenPipeError):
            self._requests.close()
        if self.folder or self._connected:  # else it has nothing to end, and still tries to get in
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_GRACE)
        with contextlib.suppress(ProcessLookupError):  # what may be left of a Ray that was killed
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(_GRACE)
        self.process.stdout.close()

    def ready(self, seconds: float) -> str:
        """Wait until Ray is there; returns the address of this machine in the cluster.

        Raises:
            ConfigError: the cluster does not let this run in, or is too small for it.
            RunError: it does not come.
        """
        deadline, starts = Deadline(seconds), 1
        while not deadline.passed:
            with self._changed:
                if self._connected is None and not self._over:
                    self._changed.wait(_LOOK)
                came = self._connected or {}
                over = self._over
            if _SLOW in came.get("failed", "") and starts < _STARTS:
                starts += 1
                self._end()
                if self.folder:
                    Path(self.folder).mkdir(mode=0o700, exist_ok=True)
                self._begin()
                continue
            if came or over:
                break
            if self.address and _REFUSED in self._log():
                fix = "RAY_AUTH_TOKEN or ~/.ray/auth_token as on the machine of `ray start --head`"
                problem = "does not take this machine's token"
                raise ConfigError("runtime.address", self.address, problem, fix)
        if "ready" in came:
            return str(came["ready"])
        if "lacks" in came:
            problem = f"has {came['has']:g} {came['lacks']}s, and {came['needs']:g} are needed"
            fix = "fewer runtime.workers, or less runtime.cpus or runtime.gpus for each"
            raise ConfigError("runtime.address", self.address, problem, fix)
        why = came.get("failed") or self._last_line() or f"it is not there after {seconds:g} s"
        where = f"Ray at {self.address} is not reached" if self.address else "Ray does not start"
        raise RunError(f"{where}: {why}; its log is {self.log_file}", phase="start")

    def _log(self) -> bytes:
        with self.log_file.open("rb") as file:
            file.seek(self._log_begins)
            return file.read(1 << 20)

    def _last_line(self) -> str:
        lines = [line for line in self._log().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip()[:_LAST_LINE] if lines else ""

    def _listen(self) -> None:
        """Take what the other process says, until it ends."""
        assert self.process.stdout is not None
        with contextlib.suppress(OSError, ValueError):  # it was closed
            while (packet := read_packet(self.process.stdout)) is not None:
                self._take(packet)
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _take(self, packet: dict[str, Any]) -> None:
        if "placed" in packet:
            self._placed(packet["placed"], packet)
        with self._changed:
            if "ended" in packet:
                self._ended[packet["ended"]] = packet["how"]
            elif "placed" not in packet:
                self._connected = packet
            self._changed.notify_all()

    # -- sites

    def prepare(
        self, service: Service, launch: Launch, parties: Path, strikes: Sequence[Strike]
    ) -> None:
        """Say what all sites have in common.

        Args:
            parties: the folder with what was dealt, and with nothing else.
        """
        self.depot = Depot(launch.checkpoints, partial(part_limit, launch.collector.job))
        self._service, self._parties, self._resume = service, parties, launch.resume
        self._strikes = [asdict(one) for one in strikes]

    def start(self, ticket: Ticket, part: dict[str, Any] | None, rejoins: bool) -> None:
        """Start a site: Ray finds a place for it, and then it is told of its task."""
        site, name = ticket.site, f"{ticket.site}.{ticket.incarnation}"
        self._starts[site] = name
        files = supplies_of(self._parties, site)
        if part is not None:
            part = self._kept(site, part)
        elif self._resume is not None:
            part = part_of_nodes(self._resume, ticket.owner, site)
        if part is not None:
            entries = [entry["file"] for entry in part["files"]]
            files |= {f"part/{entry}": Path(part["folder"]) / entry for entry in entries}
        self.depot.lay(site, files)
        service = replace(self._service, part=part, rejoins=rejoins, resume=None)
        self._orders[name] = {
            "ticket": pack_ticket(ticket),
            "service": pack_service(service),
            "strikes": self._strikes,
            "supplies": list(files),
            "far": bool(self.address),
        }
        self._ask({"place": name})

    def _kept(self, site: int, part: dict[str, Any]) -> dict[str, Any]:
        """A part of a checkpoint where it stays when newer checkpoints replace that one."""
        folder = self._parties / f"part-{site}"
        with writing(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
            for entry in part["files"]:
                shutil.copyfile(Path(part["folder"]) / entry["file"], folder / entry["file"])
        return {**part, "folder": str(folder)}

    def _placed(self, name: str, actor: dict[str, Any]) -> None:
        """An actor is there: let its key in, and give it its task."""
        site = int(name.partition(".")[0])
        if self._starts.get(site) != name:
            return
        if not self._accepted(name, actor):
            return
        self.admit(site, actor["key"])
        order = self._orders.pop(name)
        if order["far"]:
            order["ticket"]["listen"] = joined(actor["address"], 0)
        self._ask({"host": name, "order": order})

    def _accepted(self, name: str, actor: dict[str, Any]) -> bool:
        """Whether an actor has a hansa that fits this one; else it is ended."""
        if _series(actor["version"]) == _series(__version__):
            return True
        how = f"has hansa {actor['version']} at {actor['address']}, and here is {__version__}"
        self._ended[name] = how
        self._ask({"kill": name})
        return False

    @property
    def over(self) -> bool:
        """Whether Ray itself is gone."""
        return self._over

    @property
    def cores(self) -> float:
        """What the whole Ray has, once it is ready."""
        return float((self._connected or {}).get("cores", 1.0))

    def ended(self, site: int) -> str | None:
        """How a site has ended."""
        how = self._ended.get(self._starts.get(site, ""), None)
        if how is None and self._over:
            return "was lost with Ray itself"
        return how

    def kill(self, site: int) -> None:
        """End a site now."""
        self._ask({"kill": self._starts.get(site, "")})

    def log(self, site: int) -> str:
        """Where its account is."""
        return f"its log is in {self.log_file}"

    def _ask(self, packet: dict[str, Any]) -> None:
        with self._writing, contextlib.suppress(BrokenPipeError):  # then its end is noticed
            write_packet(self._requests, packet)

    def close(self) -> None:
        """End Ray, if it is this run's own, and all that was started in it."""
        self._end()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


def supplies_of(parties: Path, site: int) -> dict[str, Path]:
    """The files that a site needs of those that were dealt, by the names that it has for them."""
    return {str(path.relative_to(parties.parent)): path for path in dealt_to(parties, site)}


def part_of_nodes(folder: Path, owner: Sequence[int], site: int) -> dict[str, Any]:
    """What a site goes on from, of a checkpoint of all.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    manifest = read_manifest(folder)
    ids = [node for node, one in enumerate(owner) if one == site]
    files = [
        entry
        for entry in manifest["files"]
        if entry["nodes"][0] <= ids[-1] and entry["nodes"][1] >= ids[0]
    ]
    return {"folder": str(folder), "round": manifest["round"], "files": files}


def _series(version: str) -> str:
    """What has to be the same on all machines: patches may differ."""
    return ".".join(version.split(".")[:2])


def _environment(address: str, folder: str) -> dict[str, str]:
    """What Ray's library reads: no statistics, and for a Ray of this run's own a token that only it
    has, and a folder for all that is temporary."""
    own = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_COLOR_PREFIX": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    }
    if address:
        return {**os.environ, **own, "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token")}
    ours = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "TMPDIR": folder}
    theirs = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return {**theirs, **own, **ours}


def _short_folder() -> str:
    """A folder for Ray's sockets, whose names must not be long."""
    folder = tempfile.mkdtemp(prefix="hansa-ray-")
    if len(folder) <= _LONGEST:
        return folder
    Path(folder).rmdir()
    return tempfile.mkdtemp(prefix="hansa-ray-", dir="/tmp")
