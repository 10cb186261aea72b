"""Looks at watched runs again and again, and hands what is new to whoever waits for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any

from hansa.base.errors import HansaError
from hansa.report.live.shown import node_rows, shown
from hansa.report.live.watched import Watched

EVERY = 1.0
"""Seconds between two looks."""


class Follower:
    """What is shown, as text that is made once for all who look, in a thread of its own.

    Attributes:
        version: how often it has changed.
        over: whether every run has ended.
    """

    def __init__(self, runs: Sequence[Watched], every: float = EVERY) -> None:
        self.runs, self.every = runs, every
        self.version, self.over = 0, False
        self._messages: list[tuple[str, str]] = []
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._follow, name="hansa-watch", daemon=True)

    def start(self) -> None:
        """Look for the first time, then in a thread, whose the runs are from now on."""
        self.look(force=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more, and let go whoever waits."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def closed(self) -> bool:
        """Whether nobody looks any more."""
        return self._stop.is_set()

    def wait(self, seen: int, seconds: float) -> tuple[int, list[tuple[str, str]]]:
        """What is shown once it is newer than version ``seen``, or nothing after some seconds.

        Returns:
            Its version, and messages of (event, JSON).
        """
        with self._changed:
            self._changed.wait_for(lambda: self.version > seen or self.closed, seconds)
            return self.version, list(self._messages) if self.version > seen else []

    def check(self) -> None:
        """Raise what ended the looking, if anything did."""
        if self._error is not None:
            raise self._error

    def _follow(self) -> None:
        try:
            while not self._stop.wait(self.every):
                self.look()
        except BaseException as error:  # noqa: BLE001 - raised again by check()
            self._error = error
            self._stop.set()
            with self._changed:
                self._changed.notify_all()

    def look(self, force: bool = False) -> None:
        """Look now, and tell whoever waits if anything is new, or if ``force``."""
        news = [_updated(run) for run in self.runs]
        if not (any(news) or force):
            return
        every = shown(self.runs)
        messages = [("runs", _text(every))]
        for index, run in enumerate(self.runs):
            rows = node_rows(run, every["runs"][index]["main"])
            messages.append(("nodes", _text({"run": index, **rows})))
        with self._changed:
            self._messages, self.over = messages, every["over"]
            self.version += 1
            self._changed.notify_all()

    def until_over(self) -> None:
        """Wait until every run has ended, or until this is closed."""
        while not (self.over or self.closed):
            self.wait(self.version, 1.0)
        self.check()

    def until_closed(self) -> None:
        """Wait until this is closed, or for Ctrl-C."""
        while not self._stop.wait(1.0):
            pass
        self.check()


def _updated(run: Watched) -> bool:
    """Look at a run; a folder that is damaged or gone for now keeps what was known of it."""
    try:
        return run.update()
    except (HansaError, OSError) as error:
        news = run.trouble != str(error)
        run.trouble = str(error)
        return news


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
