"""How far a sweep is: runs done, runs under way and their rounds, and about how long it takes."""

from __future__ import annotations

import sys
import time
from typing import Any

from hansa.experiment.progress import Shown, shown_time
from hansa.experiment.sweep.crew import Crew, noted_in
from hansa.experiment.sweep.worker import FAILED

_OFTEN = 0.5  # seconds between two looks at how far runs are
_NAMED = 3  # runs under way that are named
_LONGEST = 32  # characters of what one does, where it has no rounds


class SweepProgress(Shown):
    """Told by a crew; a line that changes on a terminal, elsewhere a line for each run that ended.

    Args:
        what: is done.
        kept: how many of them had ended before.
        said: whether those that end are told one by one.
    """

    def __init__(
        self, quiet: bool = False, what: str = "runs", kept: int = 0, said: bool = True
    ) -> None:
        super().__init__(quiet)
        self.what, self.kept, self.said = what, kept, said
        self._told: set[str] = set()
        self._looked = 0.0
        self._status = "starting"
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> SweepProgress:
        super().__enter__()
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
            )
            from rich.table import Column

            console = Console(stderr=True, markup=False, highlight=False)
            rest = Column(ratio=1, no_wrap=True)  # gives way where the terminal is narrow
            self._bar = Progress(
                "{task.description}",
                BarColumn(bar_width=min(30, console.width // 8)),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[now]}", table_column=rest),
                console=console, transient=True, expand=True,
            )  # fmt: skip
            self._task = self._bar.add_task(self.what, total=None, now="")
            self._bar.start()
        return self

    def __exit__(self, *how: Any) -> None:
        if self._bar is not None:
            self._bar.stop()
        super().__exit__(*how)

    def __call__(self, crew: Crew) -> None:
        """Take what a crew has come to."""
        news = [name for name in crew.outcomes if name not in self._told]
        if not news and time.monotonic() - self._looked < _OFTEN:
            return
        self._looked = time.monotonic()
        done = self.kept + len(crew.outcomes)
        total = done + len(crew.running) + len(crew.waiting)
        self._status = self._now(crew)
        if self._bar is not None:
            self._bar.update(self._task, total=total, completed=done, now=self._status)
        for name in news:
            self._told.add(name)
            outcome = crew.outcomes[name]
            failed = outcome["status"] == FAILED
            if self.said and (self._bar is None or failed):
                why = f": {outcome.get('error', '')}".partition("\n")[0] if failed else ""
                number = f"{self.kept + len(self._told)}/{total} {self.what}"
                self.tell(f"{number}: {name} {outcome['status']}{why}")

    def doing(self, what: str) -> None:
        """Take what goes on once all runs have ended."""
        self._status = what
        if self._bar is not None:
            self._bar.update(self._task, now=what)
        else:
            self.tell(what)

    def status(self) -> str:
        """What goes on right now."""
        return f"still at it after {shown_time(self.seconds)}: {self._status}"

    def _now(self, crew: Crew) -> str:
        parts = []
        for order in list(crew.running.values())[:_NAMED]:
            noted = noted_in(order.note)
            at = f" {noted['done']}/{noted['of']}" if noted.get("of") else ""
            if not at and (what := str(noted.get("what", ""))):
                at = f" ({what if len(what) <= _LONGEST else what[:_LONGEST] + '…'})"
            parts.append(order.name + at)
        more = len(crew.running) - len(parts)
        parts += [f"and {more} more"] * (more > 0)
        if crew.asked:
            parts = ["interrupted: rounds under way are saved; once more to end at once"]
        elif crew.outcomes and (crew.waiting or crew.running):
            taken = [outcome.get("seconds", 0.0) for outcome in crew.outcomes.values()]
            left = len(crew.waiting) + 0.5 * len(crew.running)
            seconds = left * sum(taken) / len(taken) / crew.jobs
            parts.append(f"about {shown_time(seconds)} left")
        return ", ".join(parts)
