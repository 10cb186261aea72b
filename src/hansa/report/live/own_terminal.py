"""A run of this very process in its terminal: rounds, the latest figures, what was spent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hansa.report.live.sparks import round_bar, spark
from hansa.report.scores import scores
from hansa.report.units import label, number, quantity

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

WORST = "_worst"
"""Ends the name of a figure of the node that does worst, beside the mean over nodes."""
_SPENT = (
    ("bytes_sent", "bytes", "sent"),
    ("modelled_seconds", "time", "modelled"),
    ("energy_joules", "energy", "modelled energy"),
)
_SHOWN, _KEPT = 3, 64


class LocalView:
    """What is drawn anew, a few times a second, while a run goes on.

    Attributes:
        doing: what goes on right now.
        time: how long it has been at it, and what is left, in words.
        done, rounds: rounds so far and in all.
    """

    def __init__(self) -> None:
        self.doing, self.time = "preparing", ""
        self.done = self.rounds = 0
        self._latest: dict[str, float] = {}
        self._lines: dict[str, list[float]] = {}

    def take(self, figures: Mapping[str, float]) -> None:
        """Take a round's figures; those that were not measured stay as they were."""
        self._latest.update(figures)
        for name in scores(figures):
            if math.isfinite(figures[name]):
                line = self._lines.setdefault(name, [])
                line.append(figures[name])
                if len(line) > 2 * _KEPT:
                    del line[1::2]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table
        from rich.text import Text

        if not self.rounds or not self._latest:
            yield Text(" ".join(filter(None, (self.doing, self.time))), "dim")
            return
        rounds = f"  round {number(self.done)} of {number(self.rounds)}  {self.time}"
        width = max(8, min(60, options.max_width - len(rounds)))
        yield round_bar(self.done, self.rounds, width, "cyan").append(rounds)
        table = Table.grid(padding=(0, 3))
        room = max(8, min(32, options.max_width - 52))
        for name in scores(self._latest)[:_SHOWN]:
            worst = self._latest.get(name + WORST)
            table.add_row(
                Text(label(name), "dim"),
                Text(quantity(self._latest[name], name), "bold"),
                Text("" if worst is None else f"worst {quantity(worst, name)}", "dim"),
                spark(self._lines.get(name, ()), room),
            )
        yield table
        spent = [
            f"{quantity(self._latest[name], unit)} {words}"
            for name, unit, words in _SPENT
            if self._latest.get(name)
        ]
        yield Text(", ".join([*spent, self.doing]), "dim", no_wrap=True, overflow="ellipsis")
