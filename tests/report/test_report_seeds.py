"""Statistics over seeds: equal to plain numpy, honest about what is missing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.report import RunFolder
from hansa.report.several.column import Column
from hansa.report.several.seeds import over_runs, run_values, seed_statistics
from hansa.report.several.seeds_table import settings_of_seeds, summary
from hansa.report.units import spread_out


def run(path: Path, name: str, seed: Any, figures: dict[str, float], **settings: Any) -> RunFolder:
    config = {"algorithm": {"name": name, **settings}, "seed": seed}
    folder = RunFolder.create(path / f"{name}-{seed}-{len(list(path.iterdir()))}", config, {})
    for metric, value in figures.items():
        folder.record(3, metric, [value], node=[0], time=2.0)
    folder.record(3, "bytes_sent", [1000.0], node=[0], time=2.0)
    return folder


number = st.one_of(st.floats(-1e6, 1e6), st.just(math.nan), st.just(math.inf))


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(["accuracy", "loss", "steps"]), number),
        min_size=1,
        max_size=30,
    )
)
def test_statistics_are_those_of_numpy(drawn):
    rows = [
        (setting, f"run{k}", k, metric, "", value if math.isfinite(value) else None)
        for k, (setting, metric, value) in enumerate(drawn)
    ]
    schema = ["setting", "run", "seed", "metric", "unit", "value"]
    values = pl.DataFrame(rows, schema=schema, orient="row")
    values = values.with_columns(pl.col("value").cast(pl.Float64))
    found = {
        (r["setting"], r["metric"]): r for r in over_runs(values, {"a": 30, "b": 30}).to_dicts()
    }
    assert set(found) == {(setting, metric) for setting, metric, _ in drawn}
    for (setting, metric), row in found.items():
        mine = [(k, v) for k, (s, m, v) in enumerate(drawn) if (s, m) == (setting, metric)]
        fine = [v for _, v in mine if math.isfinite(v)]
        assert row["n"] == len(fine)
        assert row["runs"] == 30
        assert row["seeds"] == [k for k, v in mine if math.isfinite(v)]
        if not fine:
            assert row["mean"] is row["std"] is row["worst"] is None
            continue
        assert row["mean"] == pytest.approx(np.mean(fine), rel=1e-9, abs=1e-6)
        worst = {"accuracy": min, "loss": max}.get(metric)
        assert row["worst"] == (worst(fine) if worst else None)
        if len(fine) < 2:
            assert row["std"] is None
        else:
            assert row["std"] == pytest.approx(np.std(fine, ddof=1), rel=1e-6, abs=1e-6)


def test_a_run_without_a_figure_is_counted_and_not_averaged(tmp_path):
    runs = [
        run(tmp_path, "gossip", 1, {"accuracy": 0.9, "loss": 1.0}),
        run(tmp_path, "gossip", 2, {"accuracy": 0.7}),
        run(tmp_path, "gossip", 3, {"accuracy": math.nan, "loss": 3.0}),
        run(tmp_path, "other", 7, {"loss": 2.0}),
    ]
    frame = seed_statistics(runs)
    rows = {(row["setting"], row["metric"]): row for row in frame.to_dicts()}
    gossip, other = dict.fromkeys(frame["setting"])
    accuracy = rows[gossip, "accuracy"]
    assert (accuracy["n"], accuracy["runs"], accuracy["seeds"]) == (2, 3, [1, 2])
    assert accuracy["worst"] == 0.7
    assert accuracy["std"] == pytest.approx(math.sqrt(0.02))
    assert rows[other, "loss"]["std"] is None
    assert rows[gossip, "total_time"]["mean"] == 2.0
    assert rows[gossip, "total_bytes"]["unit"] == "B"
    assert len(run_values(runs).filter(pl.col("value").is_null())) == 1
    assert summary(frame, gossip, "accuracy") == "80 ± 14 % (n = 2 of 3), worst 70.00 %"
    assert summary(frame, other, "loss") == "2 (n = 1)"
    assert summary(frame, other, "accuracy") == ""
    grid = settings_of_seeds(runs)
    assert grid.columns[:5] == ["settings", "seeds", "rounds", "accuracy", "worst"]
    assert grid.rows[0][3:5] == ["80 ± 14 % (n = 2)", "70 %"]
    assert grid.rows[1][3:5] == ["", ""]


def test_the_same_seed_again_is_another_line(tmp_path):
    runs = [run(tmp_path, "gossip", seed, {"accuracy": 0.5}) for seed in (1, 2, 1)]
    frame = seed_statistics(runs).filter(pl.col("metric") == "accuracy")
    assert sorted(frame["n"]) == [1, 2]


@pytest.mark.parametrize(
    ("mean", "std", "kind", "text"),
    [
        (0.9312, 0.0041, "share", "93.12 ± 0.41 %"),
        (0.9312, 0.041, "share", "93.1 ± 4.1 %"),
        (0.9312, 0.0, "share", "93.12 ± 0.00 %"),
        (0.67481, 0.00112, "", "0.6748 ± 0.0011"),
        (3.0, 0.0, "", "3 ± 0"),
        (4.1e6, 0.0, "B", "4.10 ± 0 MB"),
        (12.0, 0.5, "s", "12.00 ± 0.50 s"),
        (12345.0, 2345.0, "", "12345 ± 2345"),
        (0.5, None, "share", "50.00 %"),
        (None, None, "share", ""),
    ],
)
def test_a_mean_and_its_deviation_in_words(mean, std, kind, text):
    assert spread_out(mean, std, kind) == text


def test_a_column_has_one_unit_and_the_digits_of_its_middle_deviation():
    def cells(unit, *pairs):
        return [{"mean": mean, "std": std, "unit": unit} for mean, std in pairs]

    def shown(unit, *pairs):
        column = Column.of(cells(unit, *pairs))
        return [column.with_spread(cell) for cell in cells(unit, *pairs)]

    shares = shown("share", (0.789, 0.016), (0.8062, 0.0079), (0.7, 0.012), (0.5, None))
    assert shares == ["78.9 ± 1.6 %", "80.6 ± 0.8 %", "70.0 ± 1.2 %", "50.0 %"]
    assert shown("share", (0.9, 1e-4), (0.8, 0.02), (0.7, 0.02))[0] == "90.00 ± 0.01 %"
    assert shown("s", (6420.0, None), (16452.0, None)) == ["1.78 h", "4.57 h"]
    assert shown("s", (0.5, None), (6420.0, None)) == ["500 ms", "107 min"]  # too far apart
    assert shown("B", (512.0, 3.0), (700.0, 0.4)) == ["512 ± 3 B", "700 ± 0 B"]
    assert shown("", (3.0, None)) == ["3"]
    assert Column.of([]).plain(None) == ""
    assert Column.of(cells("J", (0.0, None))).plain(0.0) == "0 J"
