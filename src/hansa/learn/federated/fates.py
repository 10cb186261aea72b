"""What became of the clients that servers invited: who, when, and how far each got.

Read from the moments that a run records of every invited client, in modelled seconds:
``client_start``, ``client_heard`` (it has the model), ``client_trained``, ``client_end`` and
``client_outcome``; ``client_server`` says whose it was where there are several servers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hansa.base.lazy import polars as pl
from hansa.learn.federated.invitation import DONE, OUTCOMES
from hansa.report.folder import RunFolder
from hansa.report.series import servers

FATES = OUTCOMES
"""What ``client_outcome`` counts through."""
UNDER_WAY = "under way"
COUNTED = FATES[DONE]
_MOMENTS = ("start", "heard", "trained", "end")


def invitations(metrics: pl.DataFrame) -> pl.DataFrame:
    """One row for each invited client and round; none in runs without servers.

    Columns: round, client, server, start, heard, trained, end (s), fate (one of :data:`FATES`, or
    under way: the run ended before the client was done).
    """
    schema = {"round": pl.Int32, "client": pl.Int32, "fate": pl.String, "server": pl.Int32}
    schema |= dict.fromkeys(_MOMENTS, pl.Float64)
    if not (metrics["name"] == "client_outcome").any():
        return pl.DataFrame(schema=schema)
    frame = _named(metrics, "client_outcome")
    for name in (*_MOMENTS, "server"):
        frame = frame.join(_named(metrics, f"client_{name}"), on=("round", "node"), how="left")
    hosts = servers(metrics)
    only = hosts[0] if hosts else None
    clock = _named(metrics, "modelled_time", pl.col("node").is_in(hosts))
    ended = clock.filter(pl.col("round") == pl.col("round").max())["modelled_time"].max()
    fate = pl.col("client_outcome").cast(pl.Int64)
    fate = fate.replace_strict(dict(enumerate(FATES)), default="other", return_dtype=pl.String)
    late = pl.col("client_end") > pl.lit(ended, pl.Float64) * (1 + 1e-9) + 1e-6
    return (
        frame.with_columns(
            fate=pl.when((fate == COUNTED) & late).then(pl.lit(UNDER_WAY)).otherwise(fate),
            client_server=pl.col("client_server").fill_null(only).cast(pl.Int32),
        )
        .rename({"node": "client"} | {f"client_{name}": name for name in (*_MOMENTS, "server")})
        .select(*schema)
        .sort("round", "client")
    )


def fates_in(invited: pl.DataFrame) -> list[str]:
    """The fates that occur, in the order of :data:`FATES`."""
    occurring = set(invited["fate"].unique())
    return [fate for fate in (*FATES, UNDER_WAY, "other") if fate in occurring]


def is_timed(invited: pl.DataFrame) -> bool:
    """Whether the run had a modelled clock, by which clients take any time at all."""
    return bool((invited["end"] > 0).any())


def times_counted(invited: pl.DataFrame, sizes: Sequence[int]) -> pl.DataFrame:
    """For every client, invited or not: client, size (examples), invited, counted."""
    every = pl.DataFrame({"client": range(len(sizes)), "size": sizes})
    every = every.with_columns(pl.col("client").cast(pl.Int32))
    seen = invited.group_by("client").agg(
        invited=pl.len(), counted=(pl.col("fate") == COUNTED).sum()
    )
    joined = every.join(seen, on="client", how="left" if len(every) else "full", coalesce=True)
    return joined.with_columns(pl.col("invited", "counted").fill_null(0).cast(pl.Int64)).sort(
        "client"
    )


def costs(run: RunFolder, metrics: pl.DataFrame, invited: pl.DataFrame) -> dict[str, Any]:
    """Where the time went, as plain numbers; empty where nobody was invited.

    Keys, some only where they are known: modelled_time, device_time, wasted_time, transfer_time,
    idle_time (s); invited, one number a fate, failed_rounds.
    """
    if not len(invited):
        return {}
    figures: dict[str, Any] = {}
    if is_timed(invited):
        hosts = servers(metrics)
        spent = (
            ("modelled_time", "modelled_time", pl.col("node").is_in(hosts)),
            ("device_time", "compute_time", ~pl.col("node").is_in(hosts)),
            ("transfer_time", "transfer_time", ~pl.col("node").is_in(hosts)),
        )
        for key, name, which in spent:
            rows = _named(metrics, name, which).filter(pl.col("round") == pl.col("round").max())
            total = rows[name].max() if key == "modelled_time" else rows[name].sum()
            figures |= {key: float(total)} if len(rows) else {}  # type: ignore[arg-type]
        lost = invited.filter(~pl.col("fate").is_in([COUNTED, UNDER_WAY]))
        figures["wasted_time"] = float((lost["trained"] - lost["heard"]).sum())
        whole = metrics.filter((pl.col("name") == "idle_time") & pl.col("node").is_null())
        if len(whole):  # a round's figure is the mean over the servers that were still at it
            at_it = invited.group_by("round").agg(n=pl.col("server").n_unique())
            each = whole.join(at_it, on="round", how="left")
            hosted = invited["server"].null_count() == 0
            count = pl.col("n") if hosted else pl.lit(len(hosts))
            figures["idle_time"] = float(each.select((pl.col("value") * count).sum()).item())
    figures["invited"] = len(invited)
    fates = invited["fate"].value_counts()
    figures |= dict(sorted(fates.rows(), key=lambda row: row[0]))
    figures["failed_rounds"] = sum(event["kind"] == "round_failed" for event in run.events())
    return figures


def _named(metrics: pl.DataFrame, name: str, *which: pl.Expr) -> pl.DataFrame:
    """A metric's rows of single nodes: round, node and the value under its name."""
    rows = metrics.filter(pl.col("name") == name, pl.col("node").is_not_null(), *which)
    return rows.select("round", "node", pl.col("value").alias(name))
