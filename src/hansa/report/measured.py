"""A run folder and its measurements, read once for all that is made of them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from hansa.base.lazy import polars as pl
from hansa.report.folder import RunFolder
from hansa.report.series import (
    Line,
    curve,
    families,
    final,
    measurements,
    progress,
    score,
    servers,
    without_moments,
)


class Measured:
    """What a run's page is made from.

    Attributes:
        run: the folder.
        config: its resolved settings.
    """

    def __init__(self, folder: RunFolder | str | Path) -> None:
        self.run = folder if isinstance(folder, RunFolder) else RunFolder.open(folder)
        self.config = self.run.config
        self._curves: dict[Line, pl.DataFrame] = {}

    @cached_property
    def everything(self) -> pl.DataFrame:
        """All measurements in long format, with a column that says which rows are a server's."""
        return measurements(self.run)

    @cached_property
    def metrics(self) -> pl.DataFrame:
        """The measurements without the moments of single clients' rounds."""
        return without_moments(self.everything)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What the run came to; empty if it never ended."""
        return self.run.summary or {}

    @cached_property
    def partition(self) -> dict[str, Any]:
        """How the data are divided; empty if nobody said."""
        return self.run.read_json("partition.json") or {}

    @cached_property
    def topology(self) -> dict[str, Any]:
        """The graph; empty if there is none."""
        return self.run.read_json("topology.json") or {}

    @cached_property
    def servers(self) -> list[int]:
        """The ids of the servers."""
        return servers(self.metrics)

    @cached_property
    def families(self) -> dict[str, list[Line]]:
        """The lines of every family of metrics."""
        return families(self.metrics)

    @cached_property
    def spent(self) -> pl.DataFrame:
        """What had been spent by each round (:func:`hansa.report.series.progress`)."""
        return progress(self.metrics)

    def curve(self, line: Line) -> pl.DataFrame:
        """The points of a line (:func:`hansa.report.series.curve`)."""
        if line not in self._curves:
            self._curves[line] = curve(self.metrics, line, self.spent)
        return self._curves[line]

    @cached_property
    def main(self) -> str | None:
        """The family of metrics by which the run is judged."""
        return score(self.metrics)

    @cached_property
    def rounds(self) -> int:
        """The last round of which something was measured."""
        return int(max(self.metrics["round"].to_list(), default=0))

    @property
    def nodes(self) -> int | None:
        """How many nodes or clients there are, where it is known."""
        count = self.config.get("nodes") or self.summary.get("nodes")
        return int(count) if count else None

    @cached_property
    def last(self) -> pl.DataFrame:
        """Each metric where it was last measured, as :func:`hansa.report.series.final`."""
        return final(self.metrics)
