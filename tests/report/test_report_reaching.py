"""What it took to get somewhere: the first evaluation there, and who never came."""

from __future__ import annotations

import math
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import ConfigError
from hansa.report import RunFolder
from hansa.report.several.reaching import Target, first_reached, reach_table, target_of, to_reach


def run(path: Path, rate: float, seed: int, values: list[float], name="accuracy") -> RunFolder:
    config = {"algorithm": {"name": "gossip", "rate": rate}, "seed": seed}
    folder = RunFolder.create(path / f"{rate}-{seed}", config, {})
    for t, value in enumerate(values):
        folder.record(2 * t, name, [value - 0.1, value + 0.1], node=[0, 1], time=0.5 * t)
        folder.record(2 * t, "bytes_sent", [100.0 * t, 200.0 * t], node=[0, 1], time=0.5 * t)
        folder.record(2 * t, "modelled_time", [1.0 * t, 3.0 * t], node=[0, 1], time=0.5 * t)
    return folder


@given(
    st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), min_size=1, max_size=20),
    st.floats(0, 1),
    st.booleans(),
)
def test_the_first_evaluation_at_or_beyond_it(values, wanted, above):
    frame = pl.DataFrame({"round": range(0, 3 * len(values), 3), "mean": values})
    found = first_reached(frame, Target("accuracy", wanted, above))
    there = [3 * k for k, v in enumerate(values) if (v >= wanted if above else v <= wanted)]
    assert (found and found["round"]) == (there[0] if there else None)


def test_rounds_bytes_and_times_over_the_seeds_that_got_there(tmp_path):
    runs = [
        run(tmp_path, 1, 1, [0.1, 0.6, 0.9, 0.7]),
        run(tmp_path, 1, 2, [0.1, 0.2, 0.3, 0.95]),
        run(tmp_path, 1, 3, [0.1, 0.2, 0.3, 0.4]),
        run(tmp_path, 2, 1, [0.1, 0.2]),
        run(tmp_path, 3, 1, [2.0, 1.0], name="loss"),
    ]
    target = target_of("accuracy=90")
    frame = to_reach(runs, [target])
    rows = {(row["setting"], row["metric"]): row for row in frame.to_dicts()}
    first = rows["rate 1", "round"]
    assert (first["n"], first["runs"], first["seeds"]) == (2, 3, [1, 2])
    assert first["mean"] == 5.0
    assert first["worst"] is None  # one never came
    assert rows["rate 1", "bytes"]["mean"] == 300 * 2.5
    assert rows["rate 1", "modelled_time"]["mean"] == 3 * 2.5
    assert rows["rate 1", "time"]["std"] == pytest.approx(0.5 * math.sqrt(0.5))
    assert rows["rate 2", "round"]["mean"] is None
    assert ("rate 3", "round") not in rows  # it does not measure it
    grid = reach_table(frame, target)
    assert grid.title == "To reach accuracy ≥ 90.00 %"
    spent = ["rounds", "bytes sent", "wall time", "modelled time"]
    assert grid.columns == ["settings", "reached", *spent]
    assert [row[1] for row in grid.rows] == ["2 of 3", "0 of 1"]
    assert grid.rows[1][2:] == ["", "", "", ""]
    with pytest.raises(ConfigError, match="measured by no run here"):
        to_reach(runs, ["auroc=0.9"])


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("accuracy=90%", Target("accuracy", 0.9, True)),
        ("accuracy = 90", Target("accuracy", 0.9, True)),
        ("accuracy=0.9", Target("accuracy", 0.9, True)),
        ("accuracy<=0.5", Target("accuracy", 0.5, False)),
        ("loss=0.9", Target("loss", 0.9, False)),
        ("rmse=12", Target("rmse", 12.0, False)),
        ("consensus_distance<=1e-3", Target("consensus_distance", 0.001, False)),
    ],
)
def test_targets_in_words(text, target):
    found = target_of(text)
    assert (found.metric, found.above) == (target.metric, target.above)
    assert found.value == pytest.approx(target.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("accuracy", "says no figure"),
        ("accuracy=high", "says no figure"),
        ("accuracy=nan", "says no figure"),
        ("accuracy=900", "between 0 and 100"),
        ("rmse=5%", "no share"),
        ("consensus_distance=1", "does not say whether more or less"),
    ],
)
def test_what_is_no_target(text, problem):
    with pytest.raises(ConfigError, match=problem):
        target_of(text)
