"""Curves over seeds: a mean is of all of them, or is drawn as what it is."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hansa.report.series import COLUMNS, nested
from hansa.report.several.seed_curves import beyond_all, over_seeds

Points = dict[int, float]


def curve(points: Points) -> pl.DataFrame:
    rounds = sorted(points)
    means = [points[t] for t in rounds]
    schema = {"round": pl.Int64, "mean": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    frame = pl.DataFrame({"round": rounds, "mean": means, "low": means, "high": means}, schema)
    spent = {name: pl.col("round").cast(pl.Float64) for name in COLUMNS[5:]}
    return frame.with_columns(nodes=pl.lit(1), **spent).select(COLUMNS)


points = st.dictionaries(
    st.integers(0, 12),
    st.integers(-8, 8).map(float) | st.just(math.nan),
    min_size=1,
    max_size=10,
)


@settings(max_examples=60)
@given(st.lists(points, min_size=1, max_size=4), st.sampled_from(["std", "range", "none"]))
@example([dict.fromkeys(range(6), 0.5), dict.fromkeys(range(3), 0.9)], "std")
@example([{0: 1.0, 5: 2.0, 7: 3.0}, {0: 1.0, 5: 2.0, 10: 3.0, 15: 3.0}], "range")
def test_a_mean_is_of_all_seeds_and_a_stretch_of_the_same_ones(runs, band):
    frames = [curve(run) for run in runs]
    fine = [{t: v for t, v in run.items() if math.isfinite(v)} for run in runs]
    whole = over_seeds(frames, band)
    assert whole["round"].to_list() == sorted(set.intersection(*(set(run) for run in fine)))
    for row in whole.to_dicts():
        own = [run[row["round"]] for run in fine]
        assert row["mean"] == pytest.approx(np.mean(own))
        if band == "range":
            assert (row["low"], row["high"]) == (min(own), max(own))
        assert row["low"] <= row["mean"] <= row["high"]
        assert row["bytes"] == row["round"]
    thin = beyond_all(frames)
    assert not set(thin["round"]) & set(whole["round"])
    if len(whole) and len(thin):
        assert thin["round"].min() > whole["round"].max()
    for part in thin.partition_by("part"):
        assert len(part) > 1
        there = {tuple(k for k, run in enumerate(fine) if t in run) for t in part["round"]}
        assert len(there) == 1, "who a stretch is the mean of does not change within it"
        (who,) = there
        assert 0 < len(who) < len(runs) or not len(whole)
        for t, value in zip(part["round"], part["mean"], strict=True):
            assert value == pytest.approx(np.mean([fine[k][t] for k in who]))


@given(st.lists(st.floats(-1, 1), min_size=12, max_size=12), st.lists(st.integers(2, 12)))
def test_no_line_turns_where_no_seed_does(slopes, lengths):
    """Every seed rises by as much each round: so does every line that is drawn, wherever they
    stop."""
    runs = [
        {t: 0.25 * t + start for t in range(length)}
        for start, length in zip(slopes, lengths, strict=False)
    ]
    if not runs:
        return
    frames = [curve(run) for run in runs]
    lines = [over_seeds(frames), *beyond_all(frames).partition_by("part")]
    for line in lines:
        assert [b - a for a, b in pairwise(line["mean"])] == pytest.approx(
            [0.25 * (b - a) for a, b in pairwise(line["round"])]
        )


@given(st.integers(1, 90), st.integers(1, 90), st.integers(4, 20))
def test_long_curves_of_unlike_lengths_keep_rounds_in_common(one, other, most):
    frames = [curve(dict.fromkeys(range(0, 5 * n, 5), 1.0)) for n in (one, other)]
    few = [nested(frame, most) for frame in frames]
    for frame, kept in zip(frames, few, strict=True):
        assert len(kept) <= most
        assert kept["round"][0] == 0
        assert kept["round"][-1] == frame["round"][-1]
        assert len(kept) == len(frame) if len(frame) <= most else len(kept) > most // 3
    common = set(few[0]["round"]) & set(few[1]["round"])
    fewest = min(one, other)
    assert len(common) >= min(fewest, fewest // (2 * -(-max(one, other) // most)) or 1)
