"""From measurements to curves: one mean and one spread a round, for any metric there is.

Names that belong together make one family: ``loss``, ``validation_loss``, ``train_loss`` and
``loss_average_model`` are lines of ``loss``; ``x_mean``, ``x_min`` and ``x_max`` are one line of
``x`` with its spread.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import polars as pl

from hansa.report.units import dimension

POINTS = 300  # of a line at most; a picture 400 pixels wide shows no more
AXES = ("round", "bytes", "time", "modelled_time", "energy")
_NAME = re.compile(r"^(validation_|train_)?(.+?)(_average_model)?$")
_WORDS = {"validation_": "validation", "train_": "training"}
_AXES_ONLY = ("wall_time", "modelled_time", "energy")  # shown as axes of the others
_UNDRAWN = (
    "steps",
    "samples",
    "training_rounds",
    "messages_sent",
    "messages_received",
    "bytes_received",
)
"""Straight lines in most runs; they are in the tables."""


@dataclass(frozen=True)
class Line:
    """One line of a family: the metrics it comes from and what to call it."""

    name: str
    label: str
    low: str | None = None
    high: str | None = None


def families(metrics: pl.DataFrame) -> dict[str, list[Line]]:
    """The lines of every family, families and lines in a reader's order."""
    names = set(metrics["name"].unique())
    nothing = metrics.group_by("name").agg((pl.col("value") == 0).all()).filter("value")["name"]
    names -= {name for name in nothing if name.endswith("_energy")}  # no model of it was given
    found: dict[str, list[Line]] = {}
    for name in sorted(names):
        family = name.removesuffix("_mean")
        if name in _UNDRAWN or name.endswith("_std"):
            continue
        if family != name and {f"{family}_min", f"{family}_max"} <= names:
            line = Line(name, "mean", f"{family}_min", f"{family}_max")
            found.setdefault(family, []).append(line)
        elif re.sub(r"_(min|max)$", "_mean", name) in names - {name}:
            continue  # the spread of the line above
        elif match := _NAME.match(name):
            part, family, average = match.groups()
            words = ["averaged model" if average else "nodes", _WORDS.get(part or "", "")]
            line = Line(name, ", ".join(word for word in words if word))
            found.setdefault(family, []).append(line)
    order = {"share": 0, "": 1, "s": 3, "B": 2, "J": 3}
    for family, lines in found.items():
        lines.sort(key=lambda line: (line.name != family, line.label))
    scores = ("accuracy", "rmse", "loss")
    keys = sorted(found, key=lambda f: (f not in scores, order[dimension(f)], f == "loss", f))
    return {family: found[family] for family in keys if family not in _AXES_ONLY}


def score(metrics: pl.DataFrame) -> str | None:
    """The family by which the run is judged: accuracy, else RMSE, else loss, else the first."""
    found = families(metrics)
    named = [family for family in ("accuracy", "rmse", "loss") if family in found]
    return next(iter([*named, *found]), None)


def spread(metrics: pl.DataFrame, line: Line) -> pl.DataFrame:
    """Mean, std, low, high and count over nodes in each round; not finite rounds are left out.

    Rows of single nodes are preferred to rows of the whole run where a metric has both.
    """
    rows = metrics.filter(pl.col("name") == line.name)
    nodes = rows.filter(pl.col("node").is_not_null())
    value = pl.col("value")
    frame = (
        (nodes if len(nodes) else rows)
        .group_by("round")
        .agg(
            mean=value.mean(),
            std=value.std(ddof=0),
            low=value.min(),
            high=value.max(),
            nodes=pl.len(),
        )
    )
    for column, name in (("low", line.low), ("high", line.high)):
        if name:
            other = metrics.filter(pl.col("name") == name).group_by("round")
            frame = frame.drop(column).join(other.agg(value.mean().alias(column)), on="round")
    return frame.filter(pl.col("mean").is_finite()).sort("round")


def progress(metrics: pl.DataFrame) -> pl.DataFrame:
    """For each round what had been spent by then, null where unknown.

    Columns: round, bytes (sent by all nodes), time (s), modelled_time (s, the slowest node),
    energy (J, all nodes).
    """
    single, value = pl.col("node").is_not_null(), pl.col("value")
    frame = metrics.group_by("round").agg(
        pl.col("time").max(),
        pl.col("bytes").filter(~single).max().cast(pl.Float64),
        *(
            value.filter(single & (pl.col("name") == name)).alias(name)
            for name in ("bytes_sent", "modelled_time", "energy")
        ),
        *(
            value.filter(~single & (pl.col("name") == name)).max().alias(f"{name}_all")
            for name in ("bytes_sent", "modelled_time", "energy")
        ),
    )

    def total(name: str, of_nodes: pl.Expr) -> pl.Expr:
        nodes = pl.when(pl.col(name).list.len() > 0).then(of_nodes)
        return pl.coalesce(pl.col(f"{name}_all"), nodes)

    return frame.select(
        "round",
        pl.coalesce("bytes", total("bytes_sent", pl.col("bytes_sent").list.sum())).alias("bytes"),
        "time",
        total("modelled_time", pl.col("modelled_time").list.max()).alias("modelled_time"),
        total("energy", pl.col("energy").list.sum()).alias("energy"),
    ).sort("round")


def curve(metrics: pl.DataFrame, line: Line, axis: str = "round") -> pl.DataFrame:
    """The points of a line, few enough to draw: x, mean, low, high, nodes, round."""
    frame = spread(metrics, line)
    if axis == "round":
        frame = frame.with_columns(x=pl.col("round").cast(pl.Float64))
    else:
        spent = progress(metrics).select("round", pl.col(axis).alias("x"))
        frame = frame.join(spent, on="round").filter(pl.col("x").is_finite()).sort("round")
    if len(frame) > POINTS:
        frame = frame[np.unique(np.linspace(0, len(frame) - 1, POINTS).round().astype(int))]
    return frame.select("x", "mean", "low", "high", "nodes", "round")


def final(metrics: pl.DataFrame) -> pl.DataFrame:
    """Each metric at the last round it was measured: name, round, nodes, mean, std, min, max.

    All but the mean are null for what concerns the whole run. Names that repeat what a row of
    single nodes says, or its spread, are left out.
    """
    value, single = pl.col("value"), pl.col("node").is_not_null()
    spread = pl.col("name").str.contains("_std$|_bytes_(min|max)$")
    return (
        metrics.with_columns(single=single)
        .filter(~spread & (pl.col("single") | ~pl.col("single").any().over("name")))
        .filter(pl.col("round") == pl.col("round").max().over("name", "single"))
        .group_by("name", "single")
        .agg(
            pl.col("round").first(),
            nodes=pl.when(pl.col("single").first()).then(pl.len()),
            mean=value.mean(),
            std=pl.when(pl.col("single").first()).then(value.std(ddof=0)),
            min=pl.when(pl.col("single").first()).then(value.min()),
            max=pl.when(pl.col("single").first()).then(value.max()),
        )
        .drop("single")
        .sort("name", "nodes", nulls_last=False)
    )
