"""``hansa.compare``: several runs as one object, for notebooks, files and the command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.errors import ConfigError
from hansa.base.files import atomic_write
from hansa.base.lazy import polars as pl
from hansa.report.comparing import (
    comparison,
    comparison_table,
    groups_of,
    settings_table,
    shown_scores,
)
from hansa.report.comparison import write_comparison
from hansa.report.folder import RunFolder, is_run
from hansa.report.grid import Grid
from hansa.report.joining import joined
from hansa.report.several.apart import told_apart
from hansa.report.several.difference_table import NOTE, differences_table
from hansa.report.several.leading import standings
from hansa.report.several.notebook_card import comparison_card
from hansa.report.several.overview import Overview, overview
from hansa.report.several.paired import paired_differences, place_of
from hansa.report.several.paper_chart import COLUMN, SUFFIXES, PaperChart, check_chart, paper_chart
from hansa.report.several.reaching import REACH_NOTE, Target, reach_table, target_of, to_reach
from hansa.report.several.seeds import run_values, seed_statistics
from hansa.report.several.seeds_table import SEEDS_NOTE, not_ended, settings_of_seeds, summary
from hansa.report.several.table_files import latex, markdown, units_in_heads, write_frame

if TYPE_CHECKING:
    import pandas

TABLES = (".tex", ".md", ".csv", ".parquet")
FILES = (".html", *SUFFIXES, *TABLES)
_RUNS = "runs"
"""Where a folder of runs may keep them."""


class Comparison:
    """Several runs: those that differ in their seed alone are one setting.

    Attributes:
        runs: the folders, in their order.
        lines: what to know of how folders were put together, a sentence each.
    """

    def __init__(
        self,
        runs: Sequence[RunFolder],
        lines: Sequence[str] = (),
        *,
        baseline: str | None = None,
        reach: Sequence[str | Target] = (),
    ) -> None:
        self.runs, self.lines = list(runs), list(lines)
        self._rows = comparison(self.runs)
        measured = dict.fromkeys([*self.scores, *(m for row in self._rows for m in row["final"])])
        self._targets = [target_of(t, measured) if isinstance(t, str) else t for t in reach]
        self._groups = groups_of(self.runs)
        place_of(baseline, self.runs, self._rows, self._groups)
        self._baseline = baseline
        self._charts: dict[tuple[Any, ...], PaperChart] = {}
        self._reached = to_reach(self.runs, self._targets, self._groups)

    @property
    def settings(self) -> list[str]:
        """The settings' names, in the order of the first run of each."""
        return [group.name for group in self._groups]

    @property
    def scores(self) -> list[str]:
        """The metrics by which models are judged, the one that settings are ranked by first."""
        return shown_scores(self._rows)

    def table(self) -> pl.DataFrame:
        """One row a setting and figure (:func:`hansa.report.several.seeds.over_runs`).

        What it took to reach a target is in it, under names such as ``bytes to accuracy >= 0.9``.
        """
        frame = seed_statistics(self.runs, self._rows, self._groups)
        if not len(self._reached):
            return frame
        name = pl.col("metric") + " to " + pl.col("target")
        return pl.concat([frame, self._reached.with_columns(metric=name).select(frame.columns)])

    def values(self) -> pl.DataFrame:
        """One row a run and figure: setting, run, seed, metric, unit, value."""
        return run_values(self.runs, self._rows, self._groups)

    def differences(self, metrics: Sequence[str] | None = None) -> pl.DataFrame:
        """Each setting against the baseline over shared seeds, of the scores or these figures.

        See :func:`hansa.report.several.paired.paired_differences`.
        """
        return paired_differences(self.runs, metrics, self._baseline, self._rows, self._groups)

    def reached(self) -> pl.DataFrame:
        """What it took to reach each target (:func:`hansa.report.several.reaching.to_reach`)."""
        return self._reached

    def to_pandas(self) -> pandas.DataFrame:
        """:meth:`table` as a data frame of pandas.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            fix = "pip install 'hansa[pandas]', or .table(), which needs none"
            raise ConfigError("to_pandas", None, "needs pandas", fix) from error
        return pd.DataFrame(self.table().to_dict(as_series=False))

    def plot(
        self,
        x: str = "round",
        y: str | None = None,
        *,
        band: str = "std",
        width: float = COLUMN,
    ) -> PaperChart:
        """One chart for a paper (:func:`hansa.report.several.paper_chart.paper_chart`)."""
        asked = (x, y, band, width)
        if asked not in self._charts:
            self._charts[asked] = paper_chart(
                self.runs, x=x, y=y, band=band, width=width, groups=self._groups
            )
        return self._charts[asked]

    def caption(
        self,
        paths: Sequence[Path],
        x: str = "round",
        y: str | None = None,
        *,
        band: str = "std",
        width: float = COLUMN,
    ) -> str:
        """What stands under those of these files that are charts; empty if none is."""
        drawn = any(form_of(path) in SUFFIXES for path in paths)
        return self.plot(x, y, band=band, width=width).caption if drawn else ""

    def summary(self, setting: str, metric: str | None = None) -> str:
        """``93.12 ± 0.41 % (n = 5), worst 92.40 %``: what a setting came to, in a line."""
        frame = seed_statistics(self.runs, self._rows, self._groups)
        return summary(frame, setting, metric or next(iter(self.scores), ""))

    def grids(self) -> list[Grid]:
        """The tables: the settings, differences from the baseline, what it took to get there."""
        tables = [settings_of_seeds(self.runs, self._rows)]
        if self._has_pairs:
            tables.append(differences_table(self._paired, self.scores[0]))
        return tables + [reach_table(self._reached, target) for target in self._targets]

    def overview(self, width: int = 80) -> Overview:
        """A line a setting with what matters most, as wide as there is room.

        Args:
            width: characters.
        """
        differences = self._paired if self._has_pairs else None
        statistics = seed_statistics(self.runs, self._rows, self._groups)
        alone = len(self._groups) == len(self.runs)
        told = comparison_table(self.runs, self._rows) if alone else None
        found = overview(
            self._rows, self._groups, statistics, differences, self._reached, self._targets, width,
            told,
        )  # fmt: skip
        return replace(found, notes=[*found.notes, *[note for note in [self._ended] if note]])

    @property
    def sentences(self) -> list[str]:
        """How many runs there are, which setting leads, if any does, and what tells them apart."""
        many, counts = len(self.runs), {len(group.runs) for group in self._groups}
        words = [f"{many} run{'s' * (many > 1)}"]
        if max(counts) > 1:
            each = f", {counts.pop()} seeds each" if len(counts) == 1 else ""
            settings = len(self._groups)
            words.append(f" of {settings} setting{'s' * (settings > 1)}{each}")
        firsts = [self.runs[group.runs[0]] for group in self._groups]
        told = [*standings(self.runs, self._rows, self._groups), told_apart(firsts)]
        return [f"{''.join(words)}.", *filter(None, told)]

    @property
    def notes(self) -> list[str]:
        """What the figures in the tables are."""
        grouped = len(self._groups) < len(self.runs)
        notes = [note for note in [SEEDS_NOTE * grouped, self._ended] if note]
        return notes + [NOTE] * self._has_pairs + [REACH_NOTE] * bool(self._targets)

    def write(
        self,
        path: str | Path,
        *,
        x: str = "round",
        y: str | None = None,
        band: str = "std",
        width: float = COLUMN,
    ) -> Path:
        """Write it in the form that the file's ending says, whole or not at all.

        ``.html``: the page; ``.svg``, ``.pdf``, ``.png``: one chart; ``.tex``, ``.md``: the tables;
        ``.csv``, ``.parquet``: :meth:`table`.

        Raises:
            ConfigError: there is no such form, or nothing to draw.
        """
        path = Path(path).expanduser()
        form = form_of(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if form == ".html":
            write_comparison(self.runs, path, baseline=self._baseline, reach=self._targets)
        elif form in SUFFIXES:
            self.plot(x, y, band=band, width=width).write(path)
        elif form in (".tex", ".md"):
            grids = [units_in_heads(grid) for grid in self.grids()]
            text = (latex if form == ".tex" else markdown)(grids, self.notes)
            with atomic_write(path, "w") as file:
                file.write(text)
        else:
            write_frame(self.table(), path)
        return path

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data: runs, settings (as :meth:`table`), differences, reached."""
        return {
            "runs": self._rows,
            "settings": self.table().to_dicts(),
            "differences": self._paired.to_dicts(),
            "reached": self._reached.to_dicts(),
        }

    @property
    def differing(self) -> list[str]:
        """The settings that are not the same in all runs."""
        return [row[0] for row in settings_table(self.runs).rows]

    def _repr_html_(self) -> str:
        """The sentences, the tables and the chart, for a notebook."""
        main = next(iter(self.scores), None)
        drawn = main and any((folder.metrics()["name"] == main).any() for folder in self.runs)
        chart = self.plot(width=2 * COLUMN) if drawn else None
        return comparison_card(self.sentences, self.grids(), self.notes, chart)

    def __repr__(self) -> str:
        shown = "; ".join(
            f"{name}: {text}" for name in self.settings if (text := self.summary(name))
        )
        return f"<Comparison of {len(self.runs)} runs: {shown}>"

    @property
    def _ended(self) -> str:
        """Which runs are no whole ones; a row a run says so itself."""
        return not_ended(self._rows) if len(self._groups) < len(self.runs) else ""

    @cached_property
    def _paired(self) -> pl.DataFrame:
        return self.differences()

    @property
    def _has_pairs(self) -> bool:
        return bool(self.scores) and bool((self._paired["n"] > 1).any())


def compare(
    runs: RunFolder | str | Path | Iterable[RunFolder | str | Path],
    *,
    baseline: str | None = None,
    reach: str | Iterable[str] = (),
) -> Comparison:
    """Compare runs: statistics over seeds, paired differences, what it took to get somewhere.

    Args:
        runs: run folders, or folders that hold some; the folders of several sites of one run are
            put together.
        baseline: the setting against which differences are taken, by its name or a run's of it;
            None: the first.
        reach: figures to be reached, such as ``accuracy=90%``.

    Raises:
        ConfigError: there is nothing to compare, or no such baseline or metric.
        CheckpointError: one is no run folder, or a file in it is corrupt.
    """
    given = [runs] if isinstance(runs, RunFolder | str | Path) else list(runs)
    opened = [folder for item in given for folder in _opened(item)]
    if not opened:
        raise ConfigError("runs", None, "there is nothing to compare", "name at least one run")
    folders, lines = joined(opened)
    targets = [reach] if isinstance(reach, str) else list(reach)
    return Comparison(folders, lines, baseline=baseline, reach=targets)


def check_files(
    paths: Iterable[Path], x: str = "round", band: str = "std", width: float = COLUMN
) -> None:
    """Refuse places and forms that cannot be written, before any work.

    Raises:
        ConfigError: naming the way out.
    """
    for path in paths:
        form_of(path)
        for place in (path, *path.parents):
            if place.is_dir() if place == path else place.is_file():
                what = "is a folder" if place == path else f"{place} is a file"
                raise ConfigError("out", str(path), what, "the name of a file, such as page.html")
    check_chart(x, band, width)


def form_of(path: Path) -> str:
    """The ending of a file that can be written.

    Raises:
        ConfigError: it is none.
    """
    if path.suffix.lower() not in FILES:
        what = "has no ending that says its form" if not path.suffix else "is no form that there is"
        raise ConfigError("out", str(path), what, f"a name in {', '.join(FILES)}")
    return path.suffix.lower()


def _opened(item: RunFolder | str | Path) -> list[RunFolder]:
    """A run, or the runs in a folder that is none itself."""
    if isinstance(item, RunFolder):
        return [item]
    path = Path(item).expanduser()
    if path.is_dir() and not is_run(path):
        places = [path, path / _RUNS] if (path / _RUNS).is_dir() else [path]
        inside = sorted(folder for place in places for folder in place.iterdir() if is_run(folder))
        if inside:
            return [RunFolder.open(folder) for folder in inside]
    return [RunFolder.open(path)]
