"""Curves of runs that differ in their seed, as one line with a band."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from hansa.base.lazy import polars as pl
from hansa.report.series import AXES

Band = Literal["std", "range", "none"]
BANDS: tuple[Band, ...] = ("std", "range", "none")
"""One standard deviation (n - 1) to each side, lowest to highest, or nothing."""


def over_seeds(frames: Sequence[pl.DataFrame], band: Band = "range") -> pl.DataFrame:
    """Curves of runs that differ in their seed as one: mean and band, a row a round.

    Only rounds at which every run has a finite point: where some stopped early, or had diverged, a
    mean over the others would turn though none of them does. What was spent by a round is the mean.

    Args:
        frames: a curve a run (:data:`hansa.report.series.COLUMNS`).
        band: what ``low`` and ``high`` are.
    """
    merged = _merged(frames, band)
    return merged.filter(pl.col("nodes") == len(frames)).select(frames[0].columns)


def beyond_all(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Means of those runs that went on where others had stopped: stretches of the same runs each.

    Args:
        frames: a curve a run.

    Returns:
        Columns as those of a curve and ``part``, the stretch; ``nodes`` says of how many runs.
        Stretches of a single round are left out: they are last evaluations at odd rounds.
    """
    merged = _merged(frames, "none")
    whole = merged.filter(pl.col("nodes") == len(frames))["round"].max()
    later = merged if whole is None else merged.filter(pl.col("round") > whole)
    # Last evaluations at rounds of their own would cut the others' stretches in two.
    held = later.filter(pl.len().over("who") > 1)
    parts = held.with_columns(part=pl.col("who").rle_id().cast(pl.Int64))
    return parts.filter(pl.len().over("part") > 1).select(*frames[0].columns, "part")


def _merged(frames: Sequence[pl.DataFrame], band: Band) -> pl.DataFrame:
    """A row a round at which some run has a finite point; ``who`` says which of them."""
    value = pl.col("mean")
    spent = [pl.col(axis).cast(pl.Float64).mean() for axis in AXES[1:]]
    deviation = value.std(ddof=1).fill_null(0.0)
    low, high = {
        "range": (value.min(), value.max()),
        "std": (value.mean() - deviation, value.mean() + deviation),
        "none": (value.mean(), value.mean()),
    }[band]
    marked = [frame.with_columns(run=pl.lit(k)) for k, frame in enumerate(frames)]
    return (
        pl.concat(marked)
        .filter(value.is_finite())
        .group_by("round")
        .agg(
            *spent,
            mean=value.mean(),
            low=low,
            high=high,
            nodes=pl.len(),
            who=pl.col("run").sort().cast(pl.String).str.join(" "),
        )
        .sort("round")
    )
