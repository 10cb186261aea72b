"""How far ratings have spread: how many nodes hold one, and how many came to who had them."""

from __future__ import annotations

from hansa.base.lazy import polars as pl
from hansa.report import RunFolder

RECEIVED, REPEATED, HELD = "ratings_received", "duplicates", "ratings"
"""What ``rex`` reports of each round: ratings that came, of them those that were there already, and
ratings in a store by now; means over nodes."""


def spread(folder: RunFolder) -> pl.DataFrame:
    """By round, as far as a run has come; empty where no ratings are passed on.

    ``round``; ``share``, of all training ratings in one node's store; ``holders``, the mean number
    of nodes that hold a rating; ``repeated``, the share of all that came so far that had been there
    already. A site knows that last of its own nodes alone, and of the others nothing.
    """
    named = folder.metrics().filter(pl.col("name").is_in([RECEIVED, REPEATED, HELD]))
    named = named.filter(pl.col("round") > 0)
    whole = named.filter(pl.col("node").is_null())
    if not len(whole):  # at a site: of its own nodes
        whole = named.group_by("round", "name").agg(pl.col("value").mean())
    dealt = folder.read_json("partition.json") or {}
    nodes, ratings = dealt.get("clients", 0), dealt.get("examples", 0)
    if not len(whole):
        schema = {"round": pl.Int64, "share": pl.Float64, "holders": pl.Float64}
        return pl.DataFrame(schema={**schema, "repeated": pl.Float64})
    wide = whole.pivot("name", index="round", values="value", aggregate_function="last")
    for name in (RECEIVED, REPEATED, HELD):
        if name not in wide.columns:
            wide = wide.with_columns(pl.lit(None, pl.Float64).alias(name))
    wide = wide.sort("round")
    came, known = pl.col(RECEIVED).cum_sum(), pl.col(REPEATED).cum_sum()
    return wide.select(
        "round",
        share=pl.col(HELD) / ratings if ratings else pl.lit(None, pl.Float64),
        holders=pl.col(HELD) * nodes / ratings if ratings else pl.lit(None, pl.Float64),
        repeated=pl.when(came > 0).then(known / came),
    )


def spread_facts(folder: RunFolder) -> dict[str, float | None]:
    """``duplicates`` and ``holders_mean`` of a run as far as it has come, or None."""
    last = spread(folder).tail(1).to_dicts()
    if not last:
        return {"duplicates": None, "holders_mean": None}
    return {"duplicates": last[0]["repeated"], "holders_mean": last[0]["holders"]}
