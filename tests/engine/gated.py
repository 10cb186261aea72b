"""A run that waits in the middle until it may go on, so that something can happen meanwhile."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

WAIT = 240.0  # seconds that a test waits for something at most, on a machine that is busy

GATED = """
import os, time
from pathlib import Path
from pydantic import Field
from hansa.learn.gossip.dpsgd import DPSGD
from hansa import register

@register("gated")
class Gated(DPSGD):
    notes: str = Field("", description="a folder")
    sites: int = Field(0, description="from round 6 on slow until so many have taken part")

    def model_post_init(self, context):
        self._note("loaded")

    def ready(self, block):
        super().ready(block)
        self._note("ready")

    def round(self, block, t):
        if "RAY_JOB_ID" in os.environ:
            while t == 4 and not (Path(self.notes) / "go").exists():
                time.sleep(0.05)
            if t > 4 and len((Path(self.notes) / "ready").read_text().split()) < self.sites:
                time.sleep(0.1)
        return (yield from super().round(block, t))

    def _note(self, what):
        if "RAY_JOB_ID" not in os.environ:
            return
        with (Path(self.notes) / what).open("a") as file:
            file.write(f"{os.getpid()}\\n")
"""
"""An algorithm in a file of its own whose fifth round waits until it may begin."""


class Gate:
    """What such sites have noted, and when they may go on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.threads: list[threading.Thread] = []

    def pids(self, what: str = "ready") -> set[int]:
        """The processes that have ``loaded`` the algorithm, or are ``ready`` for rounds."""
        file = self.folder / what
        return set(map(int, file.read_text().split())) if file.exists() else set()

    def open(self) -> None:
        """Let them go on."""
        (self.folder / "go").touch()

    def open_when(self, holds: Callable[[], bool]) -> None:
        """Let them go on once something holds."""

        def look() -> None:
            until = time.monotonic() + WAIT
            while not holds() and time.monotonic() < until:
                time.sleep(0.05)
            self.open()

        self.threads.append(threading.Thread(target=look))
        self.threads[-1].start()


def alive(pid: int) -> bool:
    """Whether a process still runs."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
