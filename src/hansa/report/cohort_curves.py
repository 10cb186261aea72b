"""Curves of runs with several servers: one a cohort, and the model they become at the end."""

from __future__ import annotations

from hansa.base.lazy import polars as pl
from hansa.report.series import progress, servers, thinned

MOST = 8
"""Cohorts that are drawn one by one; of more, the mean and the spread."""
MERGED = "merged model"
_OWN_CLOCK = "modelled_time"


def cohort_curves(
    metrics: pl.DataFrame, family: str, axis: str = "round"
) -> dict[str, pl.DataFrame]:
    """A metric of the servers' models as one curve a server, by name.

    A cohort's time is its own server's. Whatever else was spent by a round, all cohorts spent.
    Where the last round measured one model, made from those of the cohorts, it is a curve of one
    point.

    Returns:
        Columns as :func:`hansa.report.series.curve`; nothing unless there are several servers, but
        not too many, and the metric is about their models.
    """
    hosts = servers(metrics)
    rows = metrics.filter(pl.col("name") == family, pl.col("node").is_not_null())
    if not 1 < len(hosts) <= MOST or not len(rows) or not rows["server"].all():
        return {}
    metrics, merged = apart(metrics, family)
    rows = metrics.filter(pl.col("name") == family, pl.col("node").is_not_null())
    spent = along(metrics, axis)
    frames = {}
    for number, host in enumerate(hosts, start=1):
        mine = rows.filter(pl.col("node") == host)
        at = spent
        if axis == _OWN_CLOCK:
            clock = metrics.filter((pl.col("name") == axis) & (pl.col("node") == host))
            at = clock.select("round", pl.col("value").alias("x"))
            if host in merged["node"]:  # at the end its clock is that of the merged model
                at = at.filter(pl.col("round") < merged["round"].max())
        frames[f"cohort {number}"] = thinned(points(mine, at))
    frames[MERGED] = points(merged, spent)
    return {name: frame for name, frame in frames.items() if len(frame)}


def along(metrics: pl.DataFrame, axis: str) -> pl.DataFrame:
    """Where each round is on an axis: round, x."""
    x = pl.col("round") if axis == "round" else pl.col(axis)
    return progress(metrics).select("round", x.cast(pl.Float64).alias("x"))


def apart(metrics: pl.DataFrame, family: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A run's measurements without those of the model that its cohorts became, and those.

    In their place stand the cohorts' own of that round. Where nothing was merged the second is
    empty.
    """
    single = pl.col("node").is_not_null()
    own = metrics.filter((pl.col("name") == f"cohort_{family}") & single)
    rows = metrics.filter((pl.col("name") == family) & single)
    last = rows.filter(pl.col("round") == pl.col("round").max())
    if len(last) != 1 or len(own) < 2:
        return metrics, rows.clear()
    others = (pl.col("name") == family) & (pl.col("round") == last["round"][0])
    name = pl.lit(family).cast(metrics.schema["name"]).alias("name")
    return pl.concat([metrics.filter(~others), own.with_columns(name)]), last


def points(rows: pl.DataFrame, spent: pl.DataFrame) -> pl.DataFrame:
    """Single measurements as the points of a curve, x from what was ``spent`` by their round."""
    value = pl.col("value")
    frame = rows.join(spent, on="round").filter(value.is_finite() & pl.col("x").is_finite())
    return frame.sort("round").select(
        "x", mean=value, low=value, high=value, nodes=pl.lit(1, pl.UInt32), round="round"
    )
