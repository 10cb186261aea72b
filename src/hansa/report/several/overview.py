"""Several runs on one screen: a line a setting with what matters most, as wide as there is room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hansa.base.lazy import polars as pl
from hansa.report.comparing import SPENT, Group, shown_scores
from hansa.report.grid import Grid
from hansa.report.scores import direction
from hansa.report.series import AXES
from hansa.report.several.column import Column
from hansa.report.several.difference_table import differences_table
from hansa.report.several.reaching import SPENT_WORDS, Target
from hansa.report.several.seeds import TOTAL, counted, or_why_not
from hansa.report.units import amount, label

ROWS = 20
"""Settings, of which more are left to the tables."""
_NAME = 34  # characters of a name before it is broken
_FAR = 100  # rank of what is shown only where there is room to waste
_SPENT = {"bytes": 4, "modelled_time": 7, "energy": 8, "time": 9, "device_time": 10}


@dataclass(frozen=True)
class Overview:
    """A table that fits a screen, and what to know of it.

    Attributes:
        grid: a row a setting; the best come first where there are more than :data:`ROWS`.
        notes: what its figures are, and what there was no room for; a sentence or two each.
    """

    grid: Grid
    notes: list[str]


@dataclass(frozen=True)
class _Part:
    """A column that may be shown: the lower its rank, the sooner."""

    head: str
    cells: list[str]
    rank: int
    note: str = ""
    short: str = ""
    words: bool = False


def overview(
    rows: Sequence[Mapping[str, Any]],
    groups: Sequence[Group],
    statistics: pl.DataFrame,
    differences: pl.DataFrame | None,
    reached: pl.DataFrame,
    targets: Sequence[Target],
    width: int,
    told: Grid | None = None,
) -> Overview:
    """A line a setting: what it scored, against the baseline, what it took and what it sent.

    Args:
        rows: the runs (:func:`hansa.report.comparing.comparison`).
        groups: the settings.
        statistics: as :func:`hansa.report.several.seeds.seed_statistics` has them.
        differences: paired ones (:func:`hansa.report.several.paired.paired_differences`), if any.
        reached: as :func:`hansa.report.several.reaching.to_reach` has it.
        targets: what is to be reached.
        width: of the screen, in characters.
        told: of runs that are a setting each, the table whose words say what their names do not
            (:func:`hansa.report.comparing.comparison_table`).
    """
    cells = {(row["setting"], row["metric"]): row for row in statistics.to_dicts()}
    scores = shown_scores(list(rows))
    shown = _shown(groups, cells, scores[0] if scores else "")
    names = [group.name for group in shown]
    parts = [*_words(told, shown), *_counts(shown, rows, cells)]
    for k, metric in enumerate(scores):
        parts += _scored(metric, names, cells, first=not k)
    if differences is not None and scores:
        parts += _gaps(differences, scores[0], names)
    for target in targets:
        parts += _taken(reached.filter(pl.col("target") == target.key), target, names)
    parts += _spent(names, cells)
    kept = _fitting(parts, names, width)
    grouped = len(groups) < len(rows)
    first = "settings" if grouped else "run"
    columns = [first, *(part.head for part in kept)]
    lines = [[name, *(part.cells[k] for part in kept)] for k, name in enumerate(names)]
    notes = [" ".join(dict.fromkeys(part.note for part in kept if part.note))]
    left = list(dict.fromkeys(part.short or part.head for part in parts if part not in kept))
    more = len(groups) - len(shown)
    rest = [f"{more} more {first if grouped else 'runs'}"] * (more > 0) + left
    if rest:
        notes.append(f"With --all, and on the page: {', '.join(rest)}.")
    words = 1 + sum(part.words for part in kept)
    return Overview(Grid("", columns, lines, words), [note for note in notes if note])


def _shown(
    groups: Sequence[Group], cells: Mapping[tuple[str, str], Mapping[str, Any]], main: str
) -> list[Group]:
    """All settings in their order, or of many the best, the best first."""
    if len(groups) <= ROWS:
        return list(groups)
    sign = -1 if direction(main) == "higher" else 1

    def place(group: Group) -> tuple[bool, float]:
        mean = cells.get((group.name, main), {}).get("mean")
        return mean is None, sign * (mean or 0.0)

    return sorted(groups, key=place)[:ROWS]


def _words(told: Grid | None, groups: Sequence[Group]) -> list[_Part]:
    """The algorithm and the few settings that the names do not say."""
    if told is None:
        return []
    return [
        _Part(told.columns[k], [told.rows[g.runs[0]][k] for g in groups], k + 1, words=True)
        for k in range(1, told.words)
    ]


def _counts(
    groups: Sequence[Group],
    rows: Sequence[Mapping[str, Any]],
    cells: Mapping[tuple[str, str], Mapping[str, Any]],
) -> list[_Part]:
    """How many seeds and rounds, where that differs, and how runs ended, where not all finished."""
    seeds = [str(len(group.runs)) for group in groups]
    spans = [cells.get((group.name, "rounds"), {}).get("mean") for group in groups]
    rounds = ["" if mean is None else amount(round(mean, 1), "") for mean in spans]
    parts = [_Part("seeds", seeds, 0)] * (len(set(seeds)) > 1)
    parts += [_Part("rounds", rounds, 5)] * (len(set(rounds)) > 1)
    open_ = [sum(rows[k]["status"] != "finished" for k in group.runs) for group in groups]
    if any(open_):
        ended = [f"{n} of {len(g.runs)}" if n else "" for n, g in zip(open_, groups, strict=True)]
        parts.append(_Part("not finished", ended, 2))
    return parts


def _scored(
    metric: str,
    names: Sequence[str],
    cells: Mapping[tuple[str, str], Mapping[str, Any]],
    *,
    first: bool,
) -> list[_Part]:
    own = [cells.get((name, metric)) for name in names]
    column = Column.of(own)
    means = [or_why_not(column.with_spread(c) if c else "", c) for c in own]
    spread = any("±" in text for text in means)
    note = "±: the standard deviation over seeds." if spread else ""
    parts = [_Part(label(metric), means, 1 if first else _FAR, note)]
    if spread:
        worst = [column.plain(c["worst"]) if c else "" for c in own]
        parts += [_Part("worst", worst, 6)] * first
    return parts


def _gaps(frame: pl.DataFrame, metric: str, names: Sequence[str]) -> list[_Part]:
    """The difference from the baseline with its interval."""
    grid = differences_table(frame, metric)
    if not grid.rows:
        return []
    of = {row[0]: f"{row[1]} {row[2]}".strip() for row in grid.rows}
    base = frame["baseline"][0]
    words = grid.columns[1].removeprefix("difference")
    short = base if len(base) <= _NAME else "the baseline"
    intervals = ", with the 95 % interval" * any("[" in text for text in of.values())
    note = f"less {short}: the mean difference over the seeds that both have{intervals}."
    cells = ["baseline" if name == base else of.get(name, "") for name in names]
    return [_Part(f"less {short}{words}", cells, 3, note)]


def _taken(frame: pl.DataFrame, target: Target, names: Sequence[str]) -> list[_Part]:
    """What it took to reach a target; how many got there, unless all did."""
    of = {(row["setting"], row["metric"]): row for row in frame.to_dicts()}
    parts = []
    for axis in dict.fromkeys(frame["metric"]):
        own = [of.get((name, axis)) for name in names]
        column = Column.of(own)
        cells = [_got_there(cell, column) if cell else "" for cell in own]
        head = f"{SPENT_WORDS[axis]} to {target.words}"
        some = any("(" in text for text in cells)
        note = "(3 of 5): the mean of the three that got there." if some else ""
        rank = {"round": 2, "bytes": 3}.get(axis, _FAR)
        parts.append(_Part(head, cells, rank, note, "what else that took"))
    return parts


def _got_there(cell: Mapping[str, Any], column: Column) -> str:
    """What it took on the mean, and how many got there unless all did."""
    n, runs, mean = cell["n"], cell["runs"], cell["mean"]
    if not n:
        return "never" if runs == 1 else f"0 of {runs}"
    rounds = cell["metric"] == "round"
    text = amount(round(mean, 1), "") if rounds else column.plain(mean)
    return text if n == runs else f"{text} ({n} of {runs})"


def _spent(names: Sequence[str], cells: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[_Part]:
    parts = []
    for axis in AXES:
        own = [cells.get((name, TOTAL + axis)) for name in names]
        if any(own):
            column = Column.of(own)
            means = [counted(column.plain(c["mean"]), c) if c else "" for c in own]
            parts.append(_Part(SPENT.get(axis, label(axis)), means, _SPENT.get(axis, _FAR)))
    return parts


def _fitting(parts: Sequence[_Part], names: Sequence[str], width: int) -> list[_Part]:
    """As many columns as there is room for beside the names, by rank; in their order."""
    kept: list[_Part] = []
    longest = min(_NAME, max(map(len, names), default=0))
    for part in sorted(parts, key=lambda p: p.rank):
        if not any(part.cells):
            continue
        tried = [p for p in parts if p in kept or p is part]
        heads = ["settings", *(p.head for p in tried)]
        rows = [[name, *(p.cells[k] for p in tried)] for k, name in enumerate(names)]
        grid = Grid("", heads, rows, 1 + sum(p.words for p in tried))
        if grid.needs(longest) <= width or not kept:
            kept = tried
    return kept
