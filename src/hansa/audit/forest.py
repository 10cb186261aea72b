"""Forest plots: a line a group, its estimate a point, its interval a bar."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hansa.audit.disparity import FOUR_FIFTHS
from hansa.base.lazy import altair as alt
from hansa.base.lazy import polars as pl
from hansa.report.charts import COLOURS, GREY, WIDTH, records, style

_LINE, _MOST_RATIO = 22, 2.0  # pixels; what is above is cut off
_STATES = {"beyond the line": COLOURS[1], "undecided": GREY, "within the line": COLOURS[0]}


def forest(groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Any]:
    """Differences against the reference, and ratios to the highest rate against 0.8.

    Args:
        groups: by attribute the rows of :func:`hansa.audit.group_rows.group_rows`.
    """
    differences: list[tuple[Any, ...]] = []
    ratios: list[tuple[Any, ...]] = []
    for title, rows in groups.items():
        for drawn, part in ((differences, _difference), (ratios, _ratio)):
            lines = [(row["group"], line) for row in rows if (line := part(row)) is not None]
            for k, (group, line) in enumerate(lines):
                label = group if k else f"{title}: {group}"  # the first names the attribute
                drawn.append((f"{len(drawn)}|{label}", *line))
    charts = []
    if differences:
        title = "Differences to the reference group"
        charts.append(_chart(differences, title, "points", 0.0, ".0f"))
    if ratios:
        title = "Ratios to the highest rate, against 0.8"
        charts.append(_chart(ratios, title, "ratio", FOUR_FIFTHS, ".2f"))
    return charts


def _difference(row: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Estimate and ends in points, and what they say; None where nothing is known."""
    if not _known(row.get("difference")):
        return None
    low, high = row["difference_low"], row["difference_high"]
    sides = "beyond the line" if low > 0 or high < 0 else "undecided"
    return 100 * row["difference"], 100 * low, 100 * high, sides


def _ratio(row: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Estimate and ends, and what they say; None where nothing is known."""
    if not _known(row.get("ratio")):
        return None
    states = {"below": "beyond the line", "above": "within the line"}
    high = min(row["ratio_high"], _MOST_RATIO)
    return row["ratio"], row["ratio_low"], high, states.get(row["four_fifths"], "undecided")


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _chart(rows: list[tuple[Any, ...]], title: str, unit: str, line: float, form: str) -> Any:
    names = ["group", "estimate", "low", "high", "finding"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    order = frame["group"].to_list()
    base = alt.Chart(records(frame))
    words = "slice(datum.label, indexof(datum.label, '|') + 1)"  # without the line's number
    axis = alt.Axis(labelLimit=230, grid=False, labelExpr=words)
    y = alt.Y("group:N", sort=order, title=None, axis=axis)
    ticks = alt.Axis(format=form, tickCount=6)
    x = alt.X("low:Q", title=unit, scale=alt.Scale(zero=False), axis=ticks)
    scale = alt.Scale(domain=list(_STATES), range=list(_STATES.values()))
    legend = alt.Legend(title=None, orient="bottom")
    colour = alt.Color("finding:N", scale=scale, legend=legend)
    tips = ["group:N", *(alt.Tooltip(f"{name}:Q", format=".3f") for name in names[1:4])]
    at = alt.Chart(records(pl.DataFrame({"line": [line]})))
    layers = [
        at.mark_rule(color=GREY, strokeDash=[4, 3]).encode(x="line:Q"),
        base.mark_rule(strokeWidth=2).encode(x=x, x2="high:Q", y=y, color=colour, tooltip=tips),
        base.mark_point(filled=True, size=70, opacity=1).encode(
            x="estimate:Q", y=y, color=colour, tooltip=tips
        ),
    ]
    heading = alt.TitleParams(title, subtitle="point: estimate; bar: interval; dashed: the line")
    height = max(80, _LINE * len(rows))
    return style(alt.layer(*layers).properties(width=WIDTH - 150, height=height, title=heading))
