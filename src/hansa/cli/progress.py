"""How far a run is: a bar on a terminal, a line at each evaluation anywhere else."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hansa.base.paths import short
from hansa.cli.answer import say

if TYPE_CHECKING:
    from hansa.experiment import RunFile

_SCORES = ("accuracy", "rmse", "loss")


class RunProgress:
    """Called after each round by the run; use as a context manager.

    Attributes:
        done: rounds done.
    """

    def __init__(self, quiet: bool) -> None:
        self.done = 0
        self._rounds = 0
        self._score = self._title = ""
        self._servers = 0
        self._quiet = quiet
        self._began = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not self._quiet:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

            self._bar = Progress(
                "{task.description}",
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                "{task.fields[figures]}",
                console=Console(stderr=True, markup=False, highlight=False),
                transient=True,
            )
            self._task = self._bar.add_task("preparing", total=None, figures="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, chosen: RunFile, path: Path) -> None:
        """Note what is about to run and where its results go; said when it does run."""
        self._rounds = chosen.rounds
        self._servers = chosen.algorithm.servers(chosen.nodes)
        who = "clients" if self._servers else "nodes"
        who += f" of {self._servers} servers" if self._servers > 1 else ""
        what = [short(type(part).name) for part in (chosen.algorithm, chosen.data)]
        self._title = (
            f"{' on '.join(what)}: {chosen.nodes} {who}, {chosen.rounds} rounds, results in {path}"
        )

    def __call__(self, done: int, figures: dict[str, float]) -> None:
        """Take the rounds done and the latest figures."""
        from hansa.report.units import label, quantity

        self.done = done
        if self._title and not self._quiet:
            say(self._title)
        self._title = ""
        name = next((name for name in _SCORES if name in figures), None)
        if name is not None:
            self._score = f"{label(name)} {quantity(figures[name], name)}"
        sent = f"{quantity(figures.get('bytes_sent', 0.0), 'bytes_sent')} sent"
        came = self._came(figures)
        if self._bar is not None:
            text = ", ".join(filter(None, (self._score, came, sent)))
            self._bar.update(
                self._task,
                description="round",
                total=self._rounds,
                completed=done,
                figures=text,
            )
        elif name is not None and not self._quiet:
            seconds = time.monotonic() - self._began
            parts = filter(None, (self._score, came, sent, f"{seconds:.1f} s"))
            say(f"round {done}/{self._rounds}: {', '.join(parts)}")

    def _came(self, figures: dict[str, float]) -> str:
        """How many of those whom a server invited did their part."""
        if not {"invited", "participants"} <= set(figures):
            return ""
        each = " a server" if self._servers > 1 else ""
        return f"{figures['participants']:.3g} of {figures['invited']:.3g} clients{each}"
