"""How far a run is: a bar on a terminal; anywhere else a line when there is news, and now and then.

A log that stands still looks like a run that hangs, so a pipe gets a line every half minute too.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hansa.base.paths import short
from hansa.base.telling import heard_by, say

if TYPE_CHECKING:
    from hansa.experiment.runfile import RunFile
    from hansa.report.live.own_terminal import LocalView

_DRAWN = 4  # times a second that a terminal is drawn
_SILENCE = 30.0  # seconds without a line after which a pipe gets one


class Shown(ABC):
    """Says what goes on, and that it still does; use as a context manager.

    Args:
        quiet: say nothing.
        silence: seconds without a line after which :meth:`status` is said.
    """

    def __init__(self, quiet: bool = False, silence: float = _SILENCE) -> None:
        self.quiet, self.mark = quiet, ""
        self._silence = silence
        self._began = self._last = time.monotonic()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if not self.quiet:
            self._thread = threading.Thread(target=self._watch, name="hansa-progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def seconds(self) -> float:
        """Seconds since this began."""
        return time.monotonic() - self._began

    def tell(self, text: str) -> None:
        """Say a line, unless nothing is to be said."""
        self._last = time.monotonic()
        if not self.quiet:
            say(f"[{self.mark}] {text}" if self.mark else text)

    @abstractmethod
    def status(self) -> str:
        """What goes on right now."""

    def _watch(self) -> None:
        while not self._ended.wait(max(0.0, self._last + self._silence - time.monotonic())):
            if time.monotonic() - self._last >= self._silence:
                self.tell(self.status())


class Steps(Shown):
    """Called with what begins, such as ``rule linear``."""

    _what = "preparing"

    def __call__(self, text: str) -> None:
        """Say what begins."""
        self._what = text
        self.tell(text)

    def status(self) -> str:
        """The step that goes on, and since when the whole does."""
        return f"still at it after {shown_time(self.seconds)}: {self._what}"


class RunProgress(Shown):
    """Called after each round by the run.

    Attributes:
        done: rounds done.
    """

    def __init__(self, quiet: bool = False, silence: float = _SILENCE) -> None:
        super().__init__(quiet, silence)
        self.done = 0
        self._rounds = 0
        self._what = "preparing"
        self._score = self._title = ""
        self._servers = 0
        self._first: tuple[int, float] | None = None
        self._bar: Any = None
        self._view: LocalView | None = None
        self._listening = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._listening.enter_context(heard_by(self.doing))
        if self.quiet or not sys.stderr.isatty():
            return super().__enter__()
        from rich.console import Console
        from rich.live import Live

        from hansa.report.live.own_terminal import LocalView

        console = Console(stderr=True, markup=False, highlight=False)
        self._view = LocalView()
        self._bar = Live(
            console=console,
            transient=True,
            refresh_per_second=_DRAWN,
            get_renderable=self._drawn,
            redirect_stdout=False,
            vertical_overflow="ellipsis",
        )
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._listening.close()
        if self._bar is not None:
            self._bar.stop()
        super().__exit__(kind, error, where)

    def begin(self, chosen: RunFile, path: Path) -> None:
        """Note what is about to run and where its results go; said when it does run."""
        from hansa.report.marks import marks_of, words

        self.mark = words(marks_of(chosen))
        self._rounds = chosen.rounds
        self._servers = chosen.algorithm.servers(chosen.nodes)
        who = "clients" if self._servers else "nodes"
        who += f" of {self._servers} servers" if self._servers > 1 else ""
        what = [short(type(part).name) for part in (chosen.algorithm, chosen.data)]
        self._title = (
            f"{' on '.join(what)}: {chosen.nodes} {who}, {chosen.rounds} rounds, results in {path}"
        )

    def doing(self, what: str) -> None:
        """Take what begins, before the first round or within one."""
        self._what = what

    def __call__(self, done: int, figures: dict[str, float]) -> None:
        """Take the rounds done and the latest figures."""
        from hansa.report.scores import scores
        from hansa.report.units import label, quantity

        now = time.monotonic()
        self._first = self._first or (done, now)
        self.done, self._what = done, "training"
        if self._title:
            self.tell(self._title)
        self._title = ""
        name = next(iter(scores(figures)), None)
        if name is not None:
            self._score = f"{label(name)} {quantity(figures[name], name)}"
        sent = f"{quantity(figures.get('bytes_sent', 0.0), 'bytes_sent')} sent"
        parts = [self._score, self._came(figures), sent]
        if self._view is not None:
            self._view.take(figures)
        elif name is not None:
            parts += [shown_time(self.seconds), self._left(now)]
            self.tell(f"round {done}/{self._rounds}: {', '.join(filter(None, parts))}")

    def _drawn(self) -> LocalView:
        """The view as it is now."""
        assert self._view is not None  # drawn after it was made
        left = "" if self._first is None else self._left(time.monotonic())
        self._view.done, self._view.rounds, self._view.doing = self.done, self._rounds, self._what
        self._view.time = ", ".join(filter(None, (shown_time(self.seconds), left)))
        return self._view

    def status(self) -> str:
        """What is prepared, or the round under way and how long the rest will take."""
        if self._first is None:
            return f"{self._what}, {shown_time(self.seconds)} so far"
        parts = [self._what, self._score and f"{self._score} when last measured"]
        parts += [shown_time(self.seconds), self._left(time.monotonic())]
        return f"round {self.done + 1}/{self._rounds}: {', '.join(filter(None, parts))}"

    def _left(self, now: float) -> str:
        """The time that the rounds to come will take, if they are like those so far."""
        assert self._first is not None  # called after a round
        begun, at = self._first
        if not begun < self.done < self._rounds:
            return ""
        each = (now - at) / (self.done - begun)
        return f"{shown_time(each * (self._rounds - self.done))} left"

    def _came(self, figures: dict[str, float]) -> str:
        """How many of those whom a server invited did their part."""
        if not {"invited", "participants"} <= set(figures):
            return ""
        each = " a server" if self._servers > 1 else ""
        return f"{figures['participants']:.3g} of {figures['invited']:.3g} clients{each}"


def shown_time(seconds: float) -> str:
    """A time as people say it."""
    from hansa.report.units import quantity

    return f"{seconds:.1f} s" if seconds < 10 else quantity(seconds, "time")
