"""Who is ahead at which size, and what a size will cost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.combine.merge import merge_charts as charts
from hansa.combine.merge.crossings import crossings, ranks, spread
from hansa.combine.merge.forecast import Forecast, calibrated


def rows(**accuracies: list[float]) -> list[dict]:
    sizes = (1.0, 2.0, 3.0, 5.0)
    return [
        {"algorithm": name, "size": size, "reached": size, "bytes": int(100 * size),
         "accuracy": value, "normalised": value, "worst": value - 0.1, "worst_task": "a"}
        for name, values in accuracies.items()
        for size, value in zip(sizes[-len(values):], values, strict=True)
    ]  # fmt: skip


def test_a_crossing_is_where_straight_lines_meet():
    (only,) = crossings(rows(a=[0.5, 0.6, 0.7, 0.9], b=[0.6, 0.62, 0.68, 0.8]))
    assert (only.behind, only.ahead, only.between) == ("b", "a", (2.0, 3.0))
    assert only.size == pytest.approx(2.5)
    assert not crossings(rows(a=[0.5, 0.6, 0.7, 0.9], b=[0.4, 0.5, 0.6, 0.8]))


def test_what_may_be_chance_is_no_crossing_and_ties_are_passed_over():
    curve = rows(a=[0.5, 0.6, 0.7, 0.9], b=[0.7, 0.6, 0.69, 0.7])
    assert [c.between for c in crossings(curve)] == [(1.0, 3.0)]
    assert [c.between for c in crossings(curve, margin=0.05)] == [(1.0, 5.0)]
    assert not crossings(curve, margin=0.3)


def test_only_sizes_that_both_have_are_compared():
    curve = rows(a=[0.5, 0.6, 0.7, 0.9], b=[0.8, 0.8])
    (only,) = crossings(curve)
    assert only.between == (3.0, 5.0)
    placed = {(row["algorithm"], row["size"]): row["rank"] for row in ranks(curve)}
    assert ("a", 1.0) not in placed  # nobody to be ahead of
    assert (placed["a", 3.0], placed["b", 3.0]) == (2, 1)
    assert spread(curve, 5.0) == pytest.approx(0.1)
    assert spread(curve, 4.0) == 0


@given(st.floats(0.01, 1), st.sampled_from([0.5, 1.0, 2.0]))
def test_a_forecast_of_its_own_form_is_exact(scale, power):
    losses = [0.0, 0.1, 0.3, 0.5, 0.9]
    lost = [scale * x**power for x in losses]
    forecast = calibrated(losses, lost, [8, 5, 3, 2, 1])
    assert forecast is not None
    for x, y in zip(losses, lost, strict=True):
        assert forecast.lost(x) == pytest.approx(y, rel=0.05, abs=1e-6)
    assert forecast.off is not None
    assert forecast.off < 0.05 * scale


def test_a_forecast_says_how_far_it_was_off():
    losses, sizes = [0.0, 0.2, 0.4, 0.8], [8.0, 4.0, 2.0, 1.0]
    forecast = calibrated(losses, [0.0, 0.1, 0.2, 0.4], sizes)
    assert forecast is not None
    assert forecast.off == pytest.approx(0.0, abs=1e-6)
    assert forecast.off_by_size is not None
    assert forecast.off_by_size > 0.01  # straight lines over the size miss a bent curve
    noisy = calibrated(losses, [0.0, 0.3, 0.1, 0.4], sizes)
    assert noisy is not None
    assert noisy.off is not None
    assert noisy.off > 0.05
    assert calibrated([0.0, 0.0], [0.1, 0.2], [2, 1]) is None
    few = calibrated([0.0, 0.5], [0.0, 0.25], [2, 1])
    assert few == Forecast(0.5, 1.0)
    assert few.lost(0.0) == 0.0


def test_pictures_are_of_the_form_that_vega_lite_asks_for():
    curve = rows(a=[0.5, 0.6, 0.7, 0.9], b=[0.8, 0.82])
    tree = [(0, 2, 0.4), (1, 3, 0.9)]
    ledger = [
        {"size": size, "kind": kind, "own": 10, "shared": 20, "masks": masks, "base": masks}
        for size in (1.0, 2.0)
        for kind, masks in (("without masks", 0), ("with masks", 3))
    ]
    drawn = [
        *charts.curve_charts(curve, 0.4, 0.3),
        charts.rank_chart(curve),
        charts.dendrogram_chart(["x", "y", "z"], tree, "Tree"),
        charts.group_chart(["x", "y", "z"], ["one", "two"], [[0, 0, 1], [0, 1, 1]], "Groups"),
        charts.ledger_chart(ledger, 100),
    ]
    for chart in drawn:
        chart.to_dict()  # validates


def test_branches_of_a_tree_do_not_cross():
    tree = [(1, 4, 0.1), (0, 3, 0.2), (5, 6, 0.5), (2, 7, 0.9)]
    order = charts._leaves(5, tree)
    assert sorted(order) == [0, 1, 2, 3, 4]
    for pair in ((1, 4), (0, 3)):
        assert abs(order.index(pair[0]) - order.index(pair[1])) == 1
    assert np.ptp([order.index(k) for k in (0, 1, 3, 4)]) == 3
