"""A plugin for runs that are looked into: marked examples, what is sent taken down, and a death.

Client i's examples bear the bytes ``CANARY-i`` in their last columns. ``TAP`` names a folder: what
a process sends is appended to a file of its own there. ``KILL`` says when to die by SIGKILL, as
``ROLE:WHAT:COUNT``: a worker of that index, or the coordinator, at the so-many-th time that it
sends, writes tensors (half of them are on the disk by then), takes a report, commits a request, or
clears away what that has replaced.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np

from hansa.base.component import register
from hansa.data import DataSource
from hansa.data.raw import Arrays, RawSplits
from hansa.engine.links.links import Links
from hansa.engine.runtimes import checkpoint

CLIENTS = CLASSES = 4


@register("marked")
class Marked(DataSource):
    """Four classes among four clients; the last four columns name the client, and no class."""

    def read(self):
        random = np.random.default_rng(0)
        x, y = self._some(random, 160)
        for client, part in enumerate(np.split(x, CLIENTS)):
            part[:, 4:] = np.frombuffer(f"CANARY-{client}".encode() * 2, np.float32)
        test = self._some(random, 80)
        return RawSplits(Arrays(x, y), Arrays(*test), "table", CLASSES)

    def divide(self, data, nodes, streams):
        return np.split(np.arange(len(data.train)), nodes)

    def _some(self, random, count):
        x, y = random.normal(size=(count, 8)).astype(np.float32), np.arange(count) % CLASSES
        x[np.arange(count), y] += 3.0
        return x, y


def _role() -> str:
    return next((a.split("=")[1] for a in sys.argv if a.startswith("--index=")), "coordinator")


def _passing(what: str, counts: dict[str, int] = {}) -> bool:  # noqa: B006 - counts on
    """Count one more of something; whether it is what this process is to die at."""
    counts[what] = counts.get(what, 0) + 1
    return os.environ.get("KILL") == f"{_role()}:{what}:{counts[what]}"


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _watched(owner, name: str, what: str, before=lambda *args: None) -> None:
    inner = getattr(owner, name)

    def watched(*args, **kwargs):
        if _passing(what):
            before(*args)
            _die()
        return inner(*args, **kwargs)

    setattr(owner, name, watched)


def _half(path: Path, *_: object) -> None:
    path.write_bytes(b"half of it")


_send = Links.send


def send(self, site, kind, parts):
    """As before, and taken down."""
    if tap := os.environ.get("TAP"):
        with (Path(tap) / f"{_role()}-{os.getpid()}").open("ab") as file:
            for part in parts:
                file.write(bytes(memoryview(part)))
    if _passing("send"):
        _die()
    _send(self, site, kind, parts)


Links.send = send
_watched(checkpoint, "write_tensors", "write", _half)
if os.environ.get("KILL", "").startswith("coordinator"):
    from hansa.engine.runtimes.collect import Collector
    from hansa.forget.requests import Requests

    _watched(Collector, "add", "report")
    _watched(Requests, "commit", "commit")
    _watched(Requests, "purge", "purge")
