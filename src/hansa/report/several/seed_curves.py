"""Curves of runs that differ in their seed, as one line with a band."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from hansa.base.lazy import polars as pl
from hansa.report.series import AXES

Band = Literal["std", "range", "none"]
BANDS: tuple[Band, ...] = ("std", "range", "none")
"""One standard deviation (n - 1) to each side, lowest to highest, or nothing."""


def over_seeds(
    frames: Sequence[pl.DataFrame], band: Band = "range", *, whole: bool = False
) -> pl.DataFrame:
    """Curves of runs that differ in their seed as one: mean and band of the runs, a row a round.

    What was spent by a round is the mean of the runs that got there; columns as those of a curve.

    Args:
        frames: a curve a run (:data:`hansa.report.series.COLUMNS`).
        band: what ``low`` and ``high`` are.
        whole: only rounds that all runs got to: where some stopped early, a mean over the others
            would turn there though none of them does.
    """
    value = pl.col("mean")
    spent = [pl.col(axis).cast(pl.Float64).mean() for axis in AXES[1:]]
    deviation = value.std(ddof=1).fill_null(0.0)
    low, high = {
        "range": (value.min(), value.max()),
        "std": (value.mean() - deviation, value.mean() + deviation),
        "none": (value.mean(), value.mean()),
    }[band]
    merged = (
        pl.concat(frames)
        .group_by("round")
        .agg(*spent, mean=value.mean(), low=low, high=high, nodes=pl.len())
    )
    if whole:
        merged = merged.filter(pl.col("nodes") == len(frames))
    return merged.select(frames[0].columns).sort("round")
