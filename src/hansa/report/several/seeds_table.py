"""The table of settings: each with what its seeds came to, for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hansa.base.lazy import polars as pl
from hansa.report.comparing import (
    SPENT,
    Group,
    comparison,
    comparison_table,
    groups_of,
    shown_scores,
)
from hansa.report.folder import RunFolder
from hansa.report.grid import Grid
from hansa.report.series import AXES
from hansa.report.several.column import Column
from hansa.report.several.seeds import TOTAL, counted, or_why_not, seed_statistics
from hansa.report.units import amount, label, number, spread_out

_NAMED = 8
SEEDS_NOTE = (
    "±: the standard deviation over the seeds of a line (n - 1); worst: the worst seed; what was "
    "spent: the mean over the seeds."
)


def settings_of_seeds(
    folders: Sequence[RunFolder],
    runs: list[dict[str, Any]] | None = None,
    groups: Sequence[Group] | None = None,
) -> Grid:
    """One row for runs that differ in their seed alone; with one seed each it is one row a run.

    Scores as mean ± standard deviation over the seeds (n - 1) and the worst seed of the first;
    what was spent as the mean. A cell says its n where not every seed has the figure.

    Args:
        groups: which runs are one setting, and what it is called; None: by their settings.
    """
    runs, groups = runs or comparison(folders), groups or groups_of(folders)
    if len(groups) == len(folders):
        return comparison_table(folders, runs)
    frame = seed_statistics(folders, runs, groups)
    shown = shown_scores(runs)
    spent = [key for key in AXES if (frame["metric"] == TOTAL + key).any()]
    columns = ["settings", "seeds", *(["rounds"] if any(r["rounds"] for r in runs) else [])]
    for k, name in enumerate(shown):
        columns += [label(name), *(["worst"] if not k else [])]
    columns += [SPENT.get(key, label(key)) for key in spent]
    cells = {(row["setting"], row["metric"]): row for row in frame.to_dicts()}
    names = [group.name for group in groups]
    looks = {m: Column.of(cells.get((n, m)) for n in names) for m in frame["metric"].unique()}
    rows = []
    for group in groups:
        row = [group.name, str(len(group.runs))]
        if "rounds" in columns:
            row.append(_mean(cells.get((group.name, "rounds"))))
        for k, name in enumerate(shown):
            cell = cells.get((group.name, name))
            row.append(or_why_not(looks[name].with_spread(cell) if cell else "", cell))
            if not k:
                row.append(looks[name].plain(cell["worst"]) if cell else "")
        for key in spent:
            cell = cells.get((group.name, TOTAL + key))
            row.append(counted(looks[TOTAL + key].plain(cell["mean"]), cell) if cell else "")
        rows.append(row)
    return Grid("Runs", columns, rows)


def not_ended(runs: Sequence[Mapping[str, Any]]) -> str:
    """Which runs have not finished, or diverged: all that is said of them is as of their last
    evaluation.

    Args:
        runs: rows of :func:`hansa.report.comparing.comparison`.
    """
    names = [f"{run['run']} ({run['status']})" for run in runs if run["status"] != "finished"]
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"Counted by their last evaluation: {', '.join(names[:_NAMED])}{more}."


def summary(frame: pl.DataFrame, setting: str, metric: str) -> str:
    """``93.12 ± 0.41 % (n = 5), worst 92.40 %``: what a setting's seeds came to, in a line.

    Args:
        frame: as :func:`hansa.report.several.seeds.seed_statistics` has it.
        setting: whose.
        metric: of which figure; an empty string comes back where the setting has none.
    """
    found = frame.filter((pl.col("setting") == setting) & (pl.col("metric") == metric)).to_dicts()
    if not found or not found[0]["n"]:
        return ""
    (row,) = found
    many = f"{row['n']}" if row["n"] == row["runs"] else f"{row['n']} of {row['runs']}"
    text = f"{spread_out(row['mean'], row['std'], row['unit'])} (n = {many})"
    worst = amount(row["worst"], row["unit"])
    return f"{text}, worst {worst}" if worst and row["n"] > 1 else text


def _mean(cell: Mapping[str, Any] | None) -> str:
    if cell is None or cell["mean"] is None:
        return ""
    return counted(number(round(cell["mean"], 1)), cell)
