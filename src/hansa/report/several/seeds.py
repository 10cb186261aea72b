"""Statistics over seeds: of every figure of a setting its mean, spread, count and worst.

Runs that differ in their seeds alone are one setting (:func:`hansa.report.comparing.groups_of`).
The standard deviation is that of a sample (n - 1 in the denominator), over seeds, never over
nodes: a run's own figure is the mean over its nodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hansa.base.lazy import polars as pl
from hansa.report.comparing import Group, comparison, groups_of
from hansa.report.folder import RunFolder
from hansa.report.scores import direction
from hansa.report.units import dimension

TOTAL = "total_"
"""Before the name of what a run spent in all: ``total_bytes`` is no node's figure."""
STATISTICS = ("mean", "std", "n", "runs", "worst")


def figures(run: Mapping[str, Any]) -> dict[str, float]:
    """All that a run came to, by name: final metrics, ``rounds``, and ``total_`` of what it spent.

    Args:
        run: a row of :func:`hansa.report.comparing.comparison`.
    """
    every = {**run["final"], **{TOTAL + key: value for key, value in run["totals"].items()}}
    if run["rounds"] is not None:
        every["rounds"] = float(run["rounds"])
    return every


def run_values(
    folders: Sequence[RunFolder],
    rows: Sequence[Mapping[str, Any]] | None = None,
    groups: Sequence[Group] | None = None,
) -> pl.DataFrame:
    """One row a run and figure: setting, run, seed, metric, unit (B, s, J, share or empty), value.

    What is not finite is null: the run has no such figure.

    Args:
        folders: the runs.
        rows: what ``comparison`` found, where it is at hand.
        groups: likewise of ``groups_of``.
    """
    rows, groups = rows or comparison(folders), groups or groups_of(folders)
    found = []
    for group in groups:
        for k in group.runs:
            for metric, value in figures(rows[k]).items():
                fine = value is not None and math.isfinite(value)
                own = value if fine else None
                seed = seed_of(folders[k])
                found.append((group.name, rows[k]["run"], seed, metric, dimension(metric), own))
    schema = {"setting": pl.String, "run": pl.String, "seed": pl.Int64, "metric": pl.String}
    schema |= {"unit": pl.String, "value": pl.Float64}
    return pl.DataFrame(found, schema=schema, orient="row")


def over_runs(values: pl.DataFrame, counts: Mapping[str, int]) -> pl.DataFrame:
    """One row a setting and metric, from one row a run and metric.

    Args:
        values: as :func:`run_values` has them; columns that are added to ``metric`` are kept.
        counts: how many runs each setting has.

    Returns:
        setting, metric, unit; mean; std (n - 1, null of fewer than two); n, the runs that have a
        finite figure; runs, how many there are: with fewer n than runs the mean is of those that
        did well enough to have one; worst, by the metric's direction, null where it has none;
        seeds, of those n, ascending.
    """
    own = [name for name in values.columns if name not in ("run", "seed", "value", "better")]
    value = pl.col("value")
    better = pl.col("better").first()
    directed = values
    if "better" not in values.columns:
        ways = {name: direction(name) for name in values["metric"].unique()}
        directed = values.with_columns(
            better=pl.col("metric").replace_strict(ways, default="", return_dtype=pl.String)
        )
    every = {name: counts[name] for name in values["setting"].unique()}
    return (
        directed.group_by(own, maintain_order=True)
        .agg(
            mean=value.mean(),
            std=value.std(ddof=1),
            n=value.count().cast(pl.Int64),
            worst=pl.when(better == "higher")
            .then(value.min())
            .when(better == "lower")
            .then(value.max()),
            seeds=pl.col("seed").filter(value.is_not_null()).drop_nulls().sort(),
        )
        .with_columns(
            runs=pl.col("setting").replace_strict(every, default=0, return_dtype=pl.Int64)
        )
        .select(*own, *STATISTICS, "seeds")
    )


def seed_statistics(
    folders: Sequence[RunFolder],
    rows: Sequence[Mapping[str, Any]] | None = None,
    groups: Sequence[Group] | None = None,
) -> pl.DataFrame:
    """One row a setting and figure: columns as :func:`over_runs` has them.

    Args:
        folders: the runs, of any verbs.
        rows: what ``comparison`` found, where it is at hand.
        groups: likewise of ``groups_of``.
    """
    groups = groups or groups_of(folders)
    counts = {group.name: len(group.runs) for group in groups}
    return over_runs(run_values(folders, rows, groups), counts)


def counted(text: str, cell: Mapping[str, Any]) -> str:
    """A figure with its n, where some runs have no such figure."""
    return text if not text or cell["n"] == cell["runs"] else f"{text} (n = {cell['n']})"


def or_why_not(text: str, cell: Mapping[str, Any] | None) -> str:
    """A figure with its n; ``not finite`` where the runs measured it and none came to a number."""
    if cell is None:
        return ""
    return counted(text, cell) if cell["n"] else "not finite"


def seed_of(folder: RunFolder) -> int | None:
    """The run's own seed, where its settings have one."""
    seed = folder.config.get("seed")
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else None
