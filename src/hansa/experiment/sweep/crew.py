"""Some runs of a sweep at a time, each in a process of its own, until all have ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hansa.base import child
from hansa.engine.runtimes.starting import begin as begin_processes
from hansa.engine.runtimes.starting import how_it_ended
from hansa.experiment.sweep.worker import FAILED, INTERRUPTED, SPARED

_LOOK = 0.05  # seconds between two looks at the processes
_WORKER = "hansa.experiment.sweep.worker"
Outcome = dict[str, Any]
"""How a run ended: ``status``, and of one that failed ``error``; ``seconds`` that it took."""


@dataclass(frozen=True)
class Order:
    """What a process is to do: see :func:`hansa.experiment.sweep.worker.host`.

    Attributes:
        name: of the run in the sweep.
        note: the file in which it notes how far it is and how it ended.
    """

    name: str
    note: Path
    packet: dict[str, Any]


class Places(Protocol):
    """Where processes live."""

    def start(self, site: int, packet: dict[str, Any]) -> None:
        """Start one with what it is told."""

    def status(self, site: int) -> int | str | None:
        """How it ended, a status or words; None: it still runs."""

    def interrupt(self, site: int) -> None:
        """Ask it to end."""

    def kill(self, site: int) -> None:
        """End it now."""

    def close(self) -> None:
        """End all."""


@dataclass
class Crew:
    """Takes orders, as many at a time as there are jobs.

    Args:
        told: is called whenever something has changed, and now and then.

    Attributes:
        waiting: orders that nobody has begun.
        running: orders under way, by the number of the process.
        asked: how often it was asked to end.
        spared: says of an order's name whether it is not worth to be begun any more; then it is
            noted as spared.
    """

    places: Places
    jobs: int
    told: Callable[[Crew], None]
    waiting: list[Order] = field(default_factory=list)
    running: dict[int, Order] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    asked: int = 0
    spared: Callable[[str], bool] | None = None
    _started: int = 0

    def work(self, orders: Sequence[Order]) -> dict[str, Outcome]:
        """Have orders done; returns how each that was begun ended.

        An interrupt has no others begun, and asks those under way to save what they have: they end
        after their round. A second one ends them at once, a third kills them.
        """
        self.waiting, self.outcomes, pause = list(orders), {}, time.sleep
        while self.running or self.waiting:
            try:
                self._start()
                self.told(self)
                pause(_LOOK)
                self._look()
            except KeyboardInterrupt:
                self._ask()
        self.told(self)
        return self.outcomes

    def _start(self) -> None:
        while self.waiting and len(self.running) < self.jobs and not self.asked:
            order = self.waiting.pop(0)
            order.note.parent.mkdir(exist_ok=True)
            if self.spared is not None and self.spared(order.name):
                self.outcomes[order.name] = {"status": SPARED}
                order.note.write_text(json.dumps(self.outcomes[order.name]))
                continue
            order.note.unlink(missing_ok=True)
            self._started += 1
            self.running[self._started] = order
            self.places.start(self._started, {**order.packet, "note": str(order.note)})

    def _look(self) -> None:
        for site, order in list(self.running.items()):
            status = self.places.status(site)
            if status is None:
                continue
            del self.running[site]
            noted = noted_in(order.note)
            if noted.get("status", "running") == "running":  # it died before it could say
                early = status == -signal.SIGTERM  # it was asked before it could hear that
                killed = self.asked > (0 if early else 2)
                how = status if isinstance(status, str) else how_it_ended(status)
                error = f"its process {how}"
                noted = {"status": INTERRUPTED if killed else FAILED, "error": error}
                order.note.write_text(json.dumps(noted))
            self.outcomes[order.name] = noted

    def _ask(self) -> None:
        self.asked += 1
        self.waiting = []
        for site in self.running:
            (self.places.interrupt if self.asked < 3 else self.places.kill)(site)


def noted_in(path: Path) -> Outcome:
    """What was noted of a run; nothing where nothing was."""
    with contextlib.suppress(OSError, ValueError):
        noted = json.loads(path.read_text())
        if isinstance(noted, dict):
            return noted
    return {}


def on_this_machine(logs: Path, threads: int) -> Places:
    """Processes here, forked from one that has loaded what they need.

    Args:
        logs: the folder of their accounts.
        threads: cores that each may use.
    """
    with contextlib.suppress(ValueError):  # whoever says how many means at most so many
        threads = min(threads, int(os.environ.get("OMP_NUM_THREADS", threads)) or threads)
    return begin_processes(child.command(_WORKER), logs, threads)
