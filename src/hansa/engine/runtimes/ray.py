"""Actors of Ray, on one machine or on many, that exchange over links of our own."""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import socket
import tempfile
from pathlib import Path

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError, RunError
from hansa.base.telling import doing
from hansa.engine.job import Job
from hansa.engine.links.addresses import split
from hansa.engine.links.vouching import ByKey, ChannelKind
from hansa.engine.runtimes.coordinator import Coordinator
from hansa.engine.runtimes.dealing import FOLDER
from hansa.engine.runtimes.ray_launcher import RayLauncher
from hansa.engine.runtimes.runtime import Launch
from hansa.engine.runtimes.site import Service
from hansa.engine.runtimes.workers import WorkerRuntime

_LOCAL = 180.0  # seconds in which a Ray of our own has to be there
_FAR = 30.0  # seconds in which one has to answer that is there
_PROBE = 2.0  # seconds in which its port has to
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""What every client says first that speaks HTTP/2, and no settings (RFC 9113, section 3.4)."""
_SETTINGS = 4  # the type of the frame that answers it
_TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@register("ray")
class Ray(WorkerRuntime):
    """Actors that Ray places on one or many machines, each with a block of nodes; messages go over
    encrypted links of their own."""

    address: str = Field(
        "",
        description="host:port of the Ray cluster that this machine is part of; empty: a Ray of "
        "the run's own on this machine, which ends with it",
    )
    cpus: float = Field(1.0, gt=0, description="cores that each actor takes, and uses")
    gpus: float = Field(0.0, ge=0, description="GPUs that each actor takes; 0.25: four share one")

    channel: ChannelKind = Field(
        ByKey(),
        description="what actors prove to each other: tls = their keys; attested = beside that, on "
        "evidence of trusted hardware, what runs there",
    )

    def check(self, nodes: int) -> None:
        super().check(nodes)
        if not self.channel.keyed:
            problem = "is readable on the network, which this machine does not end at"
            raise ConfigError("channel", type(self.channel).name, problem, "tls, or attested")
        if importlib.util.find_spec("ray") is None:
            fix = "pip install 'hansa[ray]'; or runtime: processes"
            raise ConfigError("name", "ray", "needs Ray, which is not installed here", fix)
        if self.address:
            probe(self.address)
            check_token()

    def reach(self) -> None:
        if not self.address:
            return
        doing(f"reaching Ray at {self.address}")
        logs, keeps = Path(tempfile.mkdtemp(prefix="hansa-ray-")), False
        launcher = self._launcher(logs)
        try:
            launcher.ready(_FAR)
        except RunError:
            keeps = True  # it names the log
            raise
        finally:
            launcher.close()
            if not keeps:
                shutil.rmtree(logs, ignore_errors=True)

    def _launcher(self, logs: Path) -> RayLauncher:
        return RayLauncher(
            logs=logs,
            address=self.address,
            cores=math.ceil(self.workers * self.cpus),
            workers=self.workers,
            share={"cpus": self.cpus, "gpus": self.gpus},
            patience=self.deadline,
        )

    def run(self, job: Job, launch: Launch) -> None:
        self.check_device(job.device)
        folder = launch.collector.folder.path
        doing("starting Ray" if not self.address else f"reaching Ray at {self.address}")
        launcher = self._launcher(folder / "logs")

        def meet() -> Coordinator:
            here = launcher.ready(_FAR if self.address else _LOCAL)
            doing(f"starting {self.workers} actors")
            launcher.prepare(self._service, launch, folder / FOLDER, self._strikes)
            coordinator = self._coordinator(
                job,
                launch,
                launcher,
                listen=f"{here if self.address else '127.0.0.1'}:0",
                depot=launcher.depot,
            )
            launcher.admit = coordinator.admit
            return coordinator

        self._host(job, launch, launcher, meet, carries=True)

    @property
    def _service(self) -> Service:
        """How an actor takes part; its folders are its own."""
        return Service(
            deadline=self.deadline,
            checkpoints=Path("checkpoints"),
            threads=max(1, int(self.cpus)),
            careful=self.on_crash != "stop",
            links=self._links,
        )

    def check_device(self, device: str) -> None:
        """Ray shows an actor only the GPUs that it was given, from number 0 on."""
        if device.startswith("cuda") and not self.gpus:
            fix = "runtime.gpus=1, or 0.5 where two actors share one"
            raise ConfigError("runtime.gpus", self.gpus, f"leaves actors without a {device}", fix)
        if device.startswith("cuda:"):
            problem = "is a number that is another GPU for each actor"
            raise ConfigError("device", device, problem, "device: cuda")


def probe(address: str) -> None:
    """Refuse an address where nothing answers that could be Ray.

    Ray itself tries for half a minute and more.

    Raises:
        ConfigError: what is wrong there.
    """
    fix = "host:port as `ray start --head` prints it, on a machine that is part of the cluster"
    if "://" in address:
        problem = "is of a client from outside, and actors have to reach this machine"
        raise ConfigError("address", address, problem, fix)
    if ":" not in address:
        fix = f"{fix}; without an address (runtime=ray) a Ray of this machine is started"
        raise ConfigError("address", address, "is no host:port", fix)
    host, port = split(address, "address")
    try:
        with socket.create_connection((host, port), _PROBE) as line:
            line.settimeout(_PROBE)
            line.sendall(_GREETING)
            answer = line.recv(9)
    except TimeoutError:
        problem = f"does not answer in {_PROBE:g} s"
        raise ConfigError("address", address, problem, fix) from None
    except OSError as error:
        problem = f"is not reached ({error.strerror or error})"
        raise ConfigError("address", address, problem, fix) from None
    if len(answer) < 4 or answer[3] != _SETTINGS:
        raise ConfigError("address", address, "is not Ray's", fix)


def check_token() -> None:
    """Refuse to go to a cluster without a token, unless that was said to be wanted.

    Raises:
        ConfigError: there is none.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    default = os.path.expanduser("~/.ray/auth_token")  # noqa: PTH111 - where Ray looks
    if any(os.environ.get(name) for name in _TOKENS) or os.path.isfile(default):  # noqa: PTH113
        return
    fix = (
        "`ray get-auth-token --generate`, and RAY_AUTH_MODE=token when the cluster is started; "
        "RAY_AUTH_MODE=disabled says that anybody who reaches its ports may run code there"
    )
    raise ConfigError("address", None, "needs the cluster's token, and there is none", fix)
