"""Hands what a run records to its sinks, each in a thread of its own: the run waits for none.

A sink that fails, or that falls so far behind that its queue is full, is said so once and left
out; the run goes on.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hansa.base.errors import CheckpointError, HansaWarning
from hansa.report.folder import RunFolder
from hansa.report.sink import Begun, Sink, group_now

FILE = "sinks.json"
"""In a run's folder: what its sinks go on with when it is resumed."""
OPENING, CLOSING = 10.0, 30.0
"""Seconds that a run waits for its sinks before its first round, and at its end."""
_WAITING = 1_000  # calls that a sink may be behind
_LATEST = ("modelled_time",)  # of which the slowest node's counts


class Drain:
    """One sink, called in a thread of its own.

    Attributes:
        opened: whether its ``begin`` has come to an end.
        kept: what it wants to have when the run is resumed.
        problem: why it was left out, if it was.
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.opened = threading.Event()
        self.kept: dict[str, Any] = {}
        self.problem = ""
        self._calls: queue.Queue[Callable[[], Any] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._work, name="hansa-sink", daemon=True)
        self._thread.start()

    def begin(self, run: Begun) -> None:
        """Open it; see :attr:`opened`."""

        def opening() -> None:
            try:
                self.kept = dict(self.sink.begin(run) or {})
            finally:
                self.opened.set()

        self.call(opening)

    def call(self, work: Callable[[], Any]) -> None:
        """Have it do something after all else that it was told to do."""
        if self.problem:
            return
        try:
            self._calls.put_nowait(work)
        except queue.Full:
            self.problem = f"is {_WAITING} calls behind"

    def close(self, status: str) -> None:
        """Have it end after all that it was told to do."""
        self.call(lambda: self.sink.end(status))
        with contextlib.suppress(queue.Full):  # then it was left out already
            self._calls.put_nowait(None)

    def wait(self, until: float) -> None:
        """Wait for its end, at most until a moment of the monotonic clock."""
        if self.problem:
            return
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._thread.is_alive():
            self.problem = self.problem or f"did not end within {CLOSING:.0f} s"

    def _work(self) -> None:
        while (work := self._calls.get()) is not None:
            if self.problem:
                continue
            try:
                work()
            except Exception as error:  # noqa: BLE001 - another's code: the run goes on without it
                lines = str(error).strip().splitlines()
                self.problem = f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


class Sinking:
    """Listens to a run's folder and tells its sinks.

    Args:
        sinks: of the run.
        folder: of the run; what is recorded there is told from now on.
        round: after which the run goes on.
    """

    def __init__(self, sinks: Sequence[Sink], folder: RunFolder, round: int = 0) -> None:
        self.folder = folder
        self._drains = {_key(sinks, i): Drain(sink) for i, sink in enumerate(sinks)}
        self._round: int | None = None
        self._figures: dict[str, float] = {}
        self._told: set[str] = set()
        self._kept = kept = self._read_kept()
        config = {key: value for key, value in folder.config.items() if key != "sinks"}
        for key, drain in self._drains.items():
            own = kept.get(key, {})
            begun = Begun(folder.path, config, folder.environment, round, *group_now(), own)
            drain.begin(begun)
        until = time.monotonic() + OPENING
        for drain in self._drains.values():
            drain.opened.wait(max(0.0, until - time.monotonic()))
        self._note()
        folder.listeners.append(self)

    def recorded(self, round: int, name: str, value: Any, node: Any, time: Any, bytes: Any) -> None:
        """Take a figure of the round under way; over nodes it is their mean."""
        if round != self._round:
            self._tell()
            self._round = round
        if node is None:
            self._take(name, value)
            self._take("wall_time", time)
            self._take("bytes_sent", bytes)
        elif name not in ("bytes_sent", *self._figures) and not name.startswith("client_"):
            values = np.asarray(value, np.float64)
            if values.size and np.isfinite(values).any():
                over = np.nanmax if name in _LATEST else np.nanmean
                self._take(name, float(over(values)))

    def round_over(self, round: int) -> None:
        """Tell the figures of a round."""
        self._tell()
        self._note()

    def happened(self, event: dict[str, Any]) -> None:
        """Tell a line of the diary."""
        for drain in self._drains.values():
            drain.call(lambda sink=drain.sink: sink.event(event))  # type: ignore[misc]

    def end(self, status: str) -> None:
        """Close every sink."""
        self._tell()
        self.folder.listeners.remove(self)
        until = time.monotonic() + CLOSING
        for drain in self._drains.values():
            drain.close(status)
        for drain in self._drains.values():
            drain.wait(until)
        self._note()

    def _take(self, name: str, value: Any) -> None:
        if isinstance(value, int | float) and not math.isnan(value):
            self._figures[name] = float(value)

    def _tell(self) -> None:
        if self._figures and self._round is not None:
            round, figures = self._round, self._figures
            for drain in self._drains.values():
                drain.call(lambda sink=drain.sink: sink.record(round, figures))  # type: ignore[misc]
        self._figures, self._round = {}, None

    def _read_kept(self) -> Mapping[str, Any]:
        try:
            kept = self.folder.read_json(FILE)
        except CheckpointError as error:
            text = f"{error}; sinks begin anew"
            warnings.warn(HansaWarning(text), stacklevel=3)
            return {}
        every = kept if isinstance(kept, dict) else {}
        return {key: own for key, own in every.items() if isinstance(own, dict)}

    def _note(self) -> None:
        """Keep what sinks go on with, and say which were left out."""
        now = {key: drain.kept for key, drain in self._drains.items() if drain.kept}
        if any(self._kept.get(key) != kept for key, kept in now.items()):
            self._kept = {**self._kept, **now}
            self.folder.write_json(FILE, self._kept)
        for key, drain in self._drains.items():
            if drain.problem and key not in self._told:
                self._told.add(key)
                text = f"the sink {key} is left out from now on: {drain.problem}"
                self.folder.event("warning", text=text)
                warnings.warn(HansaWarning(text), stacklevel=4)


def _key(sinks: Sequence[Sink], index: int) -> str:
    """What a sink is called: its name, and which of that name where there are several."""
    names = [sink.dump()["name"] for sink in sinks]
    before = names[:index].count(names[index])
    return f"{names[index]}-{before + 1}" if before else str(names[index])
