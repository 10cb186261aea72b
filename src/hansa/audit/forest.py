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
_STATES = {"unequal": COLOURS[1], "undecided": GREY, "no difference beyond the line": COLOURS[0]}


def forest(groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Any]:
    """Differences against the reference, and ratios to the highest rate against 0.8.

    Args:
        groups: by attribute the rows of :func:`hansa.audit.group_rows.group_rows`.
    """
    differences, ratios = [], []
    for title, rows in groups.items():
        for row in rows:
            label = f"{title}: {row['group']}"
            if _known(row.get("difference")):
                low, high = row["difference_low"], row["difference_high"]
                sides = "unequal" if low > 0 or high < 0 else "undecided"
                ends = [100 * one for one in (row["difference"], low, high)]
                differences.append((label, *ends, sides))
            if _known(row.get("ratio")):
                state = {"below": "unequal", "above": "no difference beyond the line"}
                ends = [row["ratio"], row["ratio_low"], min(row["ratio_high"], _MOST_RATIO)]
                ratios.append((label, *ends, state.get(row["four_fifths"], "undecided")))
    charts = []
    if differences:
        title = "Differences to the reference group"
        charts.append(_chart(differences, title, "points", 0.0, ".0f"))
    if ratios:
        title = "Ratios to the highest rate, against 0.8"
        charts.append(_chart(ratios, title, "ratio", FOUR_FIFTHS, ".1f"))
    return charts


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _chart(rows: list[tuple[Any, ...]], title: str, unit: str, line: float, form: str) -> Any:
    names = ["group", "estimate", "low", "high", "finding"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    order = frame["group"].to_list()
    base = alt.Chart(records(frame))
    y = alt.Y("group:N", sort=order, title=None, axis=alt.Axis(labelLimit=210, grid=False))
    x = alt.X("low:Q", title=unit, scale=alt.Scale(zero=False), axis=alt.Axis(format=form))
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
    return style(alt.layer(*layers).properties(width=WIDTH - 130, height=height, title=heading))
