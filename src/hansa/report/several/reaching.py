"""What it took to reach a figure: rounds, bytes, time and energy until a metric first got there.

A run has reached ``accuracy=90%`` at the first evaluation whose mean over the models is at or
beyond it. Nothing is interpolated between evaluations: what was spent is what had been spent when
it was measured, so that with an evaluation every ten rounds the answer is good to ten rounds.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from hansa.base.errors import ConfigError
from hansa.base.lazy import polars as pl
from hansa.report.comparing import Group, comparison, groups_of, shown_scores
from hansa.report.curves import AXIS_WORDS
from hansa.report.folder import RunFolder
from hansa.report.grid import Grid
from hansa.report.scores import direction, is_share
from hansa.report.series import (
    AXES,
    Line,
    measurements,
    progress,
    spread,
    with_axes,
    without_moments,
)
from hansa.report.several.column import Column
from hansa.report.several.seeds import counted, over_runs, seed_of
from hansa.report.units import amount, label

_TARGET = re.compile(
    r"\s*(?P<metric>[^<>=\s]+)\s*(?P<way><=|>=|=)\s*(?P<value>[^\s%]+)\s*(?P<per>%?)\s*"
)
_NOBODY = "is measured by no run here"
_UNITS = {"round": "", "bytes": "B", "energy": "J"}
SPENT_WORDS = {**AXIS_WORDS, "round": "rounds"}
REACH_NOTE = (
    "At the first evaluation whose mean over the models is at or beyond it; nothing is "
    "interpolated. Mean ± standard deviation over the runs that got there; where some did not, "
    "(n = ...) says of how many the mean is: the setting is worse than that."
)


@dataclass(frozen=True)
class Target:
    """A figure to be reached.

    Attributes:
        metric: of which metric.
        value: the figure; a share of 1 where the metric is one.
        above: whether it is reached from below.
    """

    metric: str
    value: float
    above: bool

    @property
    def words(self) -> str:
        """Such as ``accuracy ≥ 90.00 %``."""
        shown = amount(self.value, "share" if is_share(self.metric) else "")
        return f"{label(self.metric)} {'≥' if self.above else '≤'} {shown}"

    @property
    def key(self) -> str:
        """Such as ``accuracy >= 0.9``: for programs."""
        return f"{self.metric} {'>=' if self.above else '<='} {self.value:g}"


def target_of(text: str, measured: Collection[str] = ()) -> Target:
    """The target that ``accuracy=90%`` or ``rmse<=0.9`` says.

    Of a share, ``90%``, ``90`` and ``0.9`` are the same: a number above 1 is per cent.

    Args:
        text: the target.
        measured: the metrics that there are, where they are known; the likeliest first.

    Raises:
        ConfigError: it is no target, there is no such metric, or the metric does not say in which
            direction it is better.
    """
    fix = "a metric and a figure, such as accuracy=90% or rmse=0.9"
    match = _TARGET.fullmatch(text)
    try:
        value = float(match["value"]) if match else math.nan
    except ValueError:
        value = math.nan
    if match is None or not math.isfinite(value):
        raise ConfigError("reach", text, "says no figure to reach", fix)
    metric, way = match["metric"], match["way"]
    if measured and metric not in measured:
        near = difflib.get_close_matches(metric, measured, n=1) or list(measured)[:8]
        raise ConfigError("reach", text, _NOBODY, f"such as {', '.join(near)}")
    share = is_share(metric)
    if match["per"] and not share:
        raise ConfigError("reach", text, f"{metric} is no share of 1", "the figure without %")
    if share and (match["per"] or value > 1):
        value /= 100
    if share and not 0 <= value <= 1:
        raise ConfigError("reach", text, f"{metric} is between 0 and 100 %", fix)
    better = {">=": "higher", "<=": "lower"}.get(way) or direction(metric)
    if not better:
        problem = f"{metric} does not say whether more or less of it is better"
        raise ConfigError("reach", text, problem, f"'{metric}<={value:g}' or '{metric}>={value:g}'")
    return Target(metric, value, better == "higher")


def first_reached(frame: pl.DataFrame, target: Target) -> dict[str, Any] | None:
    """The first point of a curve (``round``, ``mean``, what was spent) at or beyond a target."""
    beyond = pl.col("mean") >= target.value if target.above else pl.col("mean") <= target.value
    rows = frame.filter(pl.col("mean").is_finite() & beyond).sort("round").head(1).to_dicts()
    return rows[0] if rows else None


def to_reach(
    folders: Sequence[RunFolder],
    targets: Sequence[Target | str],
    groups: Sequence[Group] | None = None,
) -> pl.DataFrame:
    """One row a setting, target and thing spent, over the seeds that got there.

    Args:
        folders: the runs.
        targets: what is to be reached.
        groups: what ``groups_of`` found, where it is at hand.

    Returns:
        setting; target (:attr:`Target.key`); metric, what was spent: round, bytes (of all nodes),
        time (wall, s), modelled_time (s), device_time (s, all nodes), energy (J, all nodes); then
        as :func:`hansa.report.several.seeds.over_runs`: n, the runs that got there; runs, those
        that measure it; worst, the most that was spent, null where a run never got there. Means
        are over those that got there: a setting with fewer n than runs is worse than its mean says.

    Raises:
        ConfigError: no run measures a target's metric.
    """
    groups = groups or groups_of(folders)
    wanted = [target_of(t) if isinstance(t, str) else t for t in targets]
    curves = [_curves(folder, {target.metric for target in wanted}) for folder in folders]
    shown = [axis for axis in AXES if _is_spent(axis, curves)]
    found = []
    for target in wanted:
        having = [k for k, own in enumerate(curves) if target.metric in own]
        if not having:
            some = shown_scores(comparison(folders))
            raise ConfigError("reach", target.metric, _NOBODY, f"such as {', '.join(some)}")
        rows, counts = [], {}
        for group in groups:
            own = [k for k in group.runs if k in having]
            counts[group.name] = len(own)
            for k in own:
                point = first_reached(curves[k][target.metric], target) or {}
                for axis in shown:
                    unit, seed = _UNITS.get(axis, "s"), seed_of(folders[k])
                    rows.append((group.name, target.key, axis, unit, seed, point.get(axis)))
        schema: dict[str, Any] = dict.fromkeys(("setting", "target", "metric", "unit"), pl.String)
        schema |= {"seed": pl.Int64, "value": pl.Float64}
        values = pl.DataFrame(rows, schema=schema, orient="row", strict=False)
        reached = over_runs(values.with_columns(better=pl.lit("lower")), counts)
        all_came = pl.col("n") == pl.col("runs")  # never is worse than any amount
        found.append(reached.with_columns(worst=pl.when(all_came).then(pl.col("worst"))))
    return pl.concat(found) if found else pl.DataFrame(schema={"setting": pl.String})


def _curves(folder: RunFolder, names: set[str]) -> dict[str, pl.DataFrame]:
    """Every evaluation of these metrics, with what had been spent by then."""
    metrics = without_moments(measurements(folder))
    there = names & set(metrics["name"].unique().cast(pl.String))
    if not there:
        return {}
    spent = progress(metrics)
    return {name: with_axes(spread(metrics, Line(name, name)), spent) for name in there}


def _is_spent(axis: str, curves: Sequence[dict[str, pl.DataFrame]]) -> bool:
    every = [frame[axis].max() for own in curves for frame in own.values()]
    return axis == "round" or any(most not in (None, 0) for most in every)


def reach_table(frame: pl.DataFrame, target: Target) -> Grid:
    """What it took to reach one target, a row a setting: how many got there, and the means.

    Args:
        frame: as :func:`to_reach` has it.
        target: which of its targets.
    """
    own = frame.filter(pl.col("target") == target.key)
    spent = list(dict.fromkeys(own["metric"]))
    cells = {(row["setting"], row["metric"]): row for row in own.to_dicts()}
    looks = {axis: Column.of(c for (_, a), c in cells.items() if a == axis) for axis in spent}
    rows = []
    for setting in dict.fromkeys(own["setting"]):
        first = cells[setting, spent[0]]
        row = [setting, f"{first['n']} of {first['runs']}"]
        row += [counted(looks[axis].with_spread(c := cells[setting, axis]), c) for axis in spent]
        rows.append(row)
    return Grid(
        f"To reach {target.words}", ["settings", "reached", *(SPENT_WORDS[a] for a in spent)], rows
    )
