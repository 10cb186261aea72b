"""Paired differences: by hand, by plain numpy, and what they refuse to say."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hansa.base.errors import ConfigError
from hansa.report import RunFolder
from hansa.report.several.difference_table import differences_picture, differences_table
from hansa.report.several.paired import holm, of_differences, paired_differences


def run(path: Path, rate: float, seed: int, accuracy: float, **more) -> RunFolder:
    config = {"algorithm": {"name": "gossip", "rate": rate}, "seed": seed, **more}
    folder = RunFolder.create(path / f"{rate}-{seed}-{len(list(path.iterdir()))}", config, {})
    folder.record(1, "accuracy", [accuracy], node=[0])
    return folder


@settings(max_examples=40)
@given(st.lists(st.integers(-50, 50), min_size=3, max_size=7))
def test_the_interval_and_the_p_values_are_the_books(values):
    d = np.array(values) / 8
    row = of_differences(d.tolist())
    assert row["n"] == len(d)
    assert row["difference"] == pytest.approx(d.mean())
    signs = np.array(list(itertools.product([1, -1], repeat=len(d))))
    as_far = np.abs((signs * d).mean(1)) >= abs(d.mean()) - 1e-12
    assert row["p_exact"] == pytest.approx(as_far.mean())
    if len(set(values)) == 1:
        assert row["low"] == row["high"] == row["difference"]
        assert row["p"] == (None if values[0] else 1.0)
        return
    reference = stats.ttest_1samp(d, 0)
    interval = reference.confidence_interval(0.95)
    assert row["p"] == pytest.approx(reference.pvalue)
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=8))
def test_holm_rejects_what_his_steps_reject(p_values):
    corrected = holm(p_values)
    real = [p for p in p_values if p is not None]
    for p, q in zip(p_values, corrected, strict=True):
        assert (p is None) == (q is None)
        if p is not None:
            assert p <= q <= min(1.0, len(real) * p) + 1e-12
    for level in (0.01, 0.05, 0.2):
        rejected = set()
        for step, p in enumerate(sorted(real)):
            if p * (len(real) - step) > level:
                break
            rejected.add(p)
        assert {
            p for p, q in zip(p_values, corrected, strict=True) if q is not None and q <= level
        } == rejected


def test_only_seeds_that_both_have_are_paired(tmp_path):
    first = [run(tmp_path, 1, seed, 0.5 + 0.1 * seed) for seed in (1, 2, 3, 4)]
    other = [run(tmp_path, 2, seed, 0.55 + 0.1 * seed + 0.01 * seed) for seed in (2, 3, 4, 9)]
    alone = [run(tmp_path, 3, 2, 0.1), run(tmp_path, 3, 3, math.nan)]
    none = [run(tmp_path, 4, 77, 0.2)]
    frame = paired_differences([*first, *other, *alone, *none])
    rows = frame.to_dicts()
    assert [row["n"] for row in rows] == [3, 1, 0]
    assert rows[0]["seeds"] == [2, 3, 4]
    assert rows[0]["difference"] == pytest.approx(0.05 + 0.03)
    assert rows[0]["low"] < 0.08 < rows[0]["high"]
    assert rows[0]["p_exact"] == 0.25  # 2 / 2^3: three seeds can show no more
    assert rows[0]["p"] == rows[0]["p_holm"]  # the others are no comparisons
    assert rows[1]["difference"] == pytest.approx(-0.6)
    assert rows[1]["low"] is rows[1]["p"] is rows[1]["p_exact"] is None
    assert rows[2]["difference"] is None
    grid = differences_table(frame, "accuracy")
    assert grid.columns[3] == "seeds"
    assert grid.rows[0][1] == "+8.00"
    assert grid.rows[1][1:3] == ["−60.00", ""]
    assert grid.rows[2][1:] == ["", "", "0", "", ""]
    assert differences_picture(frame, "accuracy").to_dict()["height"] == 52
    assert differences_picture(frame.filter(pl.col("n") == 0), "accuracy") is None


def test_a_baseline_is_named_by_its_setting_or_by_a_run_of_it(tmp_path):
    runs = [
        run(tmp_path, rate, seed, rate / 10 + seed / 100) for rate in (1, 2) for seed in (1, 2, 3)
    ]
    for name in ("rate 2", runs[4].path.name, str(runs[4].path)):
        frame = paired_differences(runs, baseline=name)
        assert frame["baseline"].to_list() == ["rate 2"]
        assert frame["difference"].to_list() == pytest.approx([-0.1])
        assert frame["low"].to_list() == frame["high"].to_list()  # the same in every seed
        assert frame["p"].to_list() == [None]
    with pytest.raises(ConfigError, match="is no setting here") as caught:
        paired_differences(runs, baseline="rate 3")
    assert "rate 1; rate 2" in caught.value.fix


def test_the_same_seed_twice_is_paired_with_neither(tmp_path):
    runs = [run(tmp_path, 1, 1, 0.5), run(tmp_path, 1, 1, 0.5), run(tmp_path, 2, 1, 0.6)]
    frame = paired_differences(runs)
    assert frame["n"].to_list() == [1, 1]
    both = {"data": {"seed": 1}}, {"data": {"seed": 2}}
    runs = [run(tmp_path, 1, 1, 0.5, **one) for one in both] + [run(tmp_path, 2, 1, 0.6)]
    assert paired_differences(runs)["n"].to_list() == [0]  # which of the two is its like?
