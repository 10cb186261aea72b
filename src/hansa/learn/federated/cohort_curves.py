"""Curves of runs with several servers: one a cohort, and the model they become at the end."""

from __future__ import annotations

from hansa.base.lazy import polars as pl
from hansa.report.series import COLUMNS, servers, thinned, with_axes

MOST = 8
"""Cohorts that are drawn one by one; of more, the mean and the spread."""
MERGED = "merged model"
_OWN_CLOCK = "modelled_time"


def cohort_curves(
    metrics: pl.DataFrame, family: str, spent: pl.DataFrame
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
    frames = {}
    for number, host in enumerate(hosts, start=1):
        clock = metrics.filter((pl.col("name") == _OWN_CLOCK) & (pl.col("node") == host))
        at = clock.select("round", pl.col("value").alias(_OWN_CLOCK))
        if host in merged["node"]:  # at the end its clock is that of the merged model
            at = at.filter(pl.col("round") < merged["round"].max())
        mine = points(rows.filter(pl.col("node") == host), spent).drop(_OWN_CLOCK)
        mine = mine.join(at, on="round", how="left", maintain_order="left")
        frames[f"cohort {number}"] = thinned(mine.select(COLUMNS))
    frames[MERGED] = points(merged, spent)
    return {name: frame for name, frame in frames.items() if len(frame)}


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
    """Single measurements as the points of a curve, with what was ``spent`` by their round."""
    value = pl.col("value")
    frame = rows.filter(value.is_finite())
    one = pl.lit(1, pl.UInt32)
    return with_axes(frame.select("round", mean=value, low=value, high=value, nodes=one), spent)
