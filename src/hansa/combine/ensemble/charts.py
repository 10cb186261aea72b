"""Pictures of an ensemble: its rules over rounds and against bytes, and its members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hansa.base.lazy import altair as alt
from hansa.base.lazy import polars as pl
from hansa.report.charts import GREY, WIDE, WIDTH, palette, records, spec_of, style
from hansa.report.units import quantity, unit

_DASHES = {"learned": [1, 0], "plain": [6, 3], "compared": [2, 3]}
_APART = 0.052  # of the height, between the middles of two names beside lines
_SIDE, _HEIGHT = WIDE - 130, 400
_MOST = 60  # members that get a bar


def rules_chart(
    rows: Sequence[Mapping[str, Any]],
    curves: Mapping[str, Sequence[tuple[int, float]]],
    chosen: str,
) -> Any:
    """Test accuracy of all rules, over rounds or against bytes: one chart with a choice of axes."""
    chart, other = accuracy_chart(rows, curves, chosen), bytes_chart(rows)
    views = [{"words": "round of phase 2", "change": {}}]
    if other is not None:
        changed = spec_of(other)
        change = {key: changed[key] for key in ("title", "layer", "datasets")}
        views.append({"words": "bytes of one client", "change": change})
        chart.usermeta = {"views": views}
    return chart


def accuracy_chart(
    rows: Sequence[Mapping[str, Any]],
    curves: Mapping[str, Sequence[tuple[int, float]]],
    chosen: str,
) -> Any:
    """Test accuracy over phase 2: a line for each rule that learns, a level for all else.

    Args:
        rows: lines of the table.
        curves: (round, accuracy) of rules, empty where they do not learn.
        chosen: the rule that is kept.
    """
    last = max((done for curve in curves.values() for done, _ in curve), default=1)
    colours = _colours(rows)
    lines = []
    for row in rows:
        curve = curves.get(row["name"]) or ()
        points = [*curve] or [(0, row["accuracy"]), (last, row["accuracy"])]
        kind = "learned" if curve else "plain" if row["kind"] == "rule" else "compared"
        lines += [(row["name"], kind, float(x), y) for x, y in points]
    columns = ["name", "kind", "round", "accuracy"]
    frame = pl.DataFrame(lines, schema=columns, orient="row")
    ends = frame.group_by("name", maintain_order=True).last()
    x = alt.X("round:Q", title="round of phase 2", axis=alt.Axis(tickCount=6),
              scale=alt.Scale(domain=[0, last], nice=False))  # fmt: skip
    y = _y(frame["accuracy"])
    kinds = list(dict.fromkeys(frame["kind"]))
    dash = alt.StrokeDash(
        "kind:N",
        scale=alt.Scale(domain=kinds, range=[_DASHES[kind] for kind in kinds]),
        legend=None,
    )
    width = alt.condition(alt.datum.name == chosen, alt.value(3.2), alt.value(1.6))
    tips: list[Any] = ["name:N", "round:Q", alt.Tooltip("accuracy:Q", format=".2%")]
    base = alt.Chart(records(frame)).encode(x=x, y=y, color=_colour(colours), tooltip=tips)
    drawn = base.mark_line().encode(strokeDash=dash, strokeWidth=width)
    names = _names(ends, frame["accuracy"], y, alt.value(_SIDE))
    note = f"thick: kept ({chosen}); dashed: rules that do not learn; dotted: compared with"
    title = alt.TitleParams("Test accuracy", subtitle=note)
    return style(alt.layer(drawn, *names).properties(width=_SIDE, height=_HEIGHT, title=title))


def bytes_chart(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Test accuracy against what one client sends and receives, counted; a tick marks the formula.

    The best client sends nothing: it is a level.
    """
    spent = [row for row in rows if row["counted"]]
    if not spent:
        return None
    size = unit(max(row["counted"] for row in spent), "B")
    columns = ["name", "accuracy", "counted", "formula"]
    points = [
        (r["name"], r["accuracy"], r["counted"] / size.size, (r["formula"] or None)) for r in spent
    ]
    frame = pl.DataFrame(points, schema=columns, orient="row").with_columns(
        pl.col("formula").cast(pl.Float64) / size.size
    )
    everything = pl.concat([frame["counted"], frame["formula"].drop_nulls()])
    low, high = float(everything.min()), float(everything.max())  # type: ignore[arg-type]
    domain = [low / 1.25, high * 1.25]
    axis = alt.Axis(values=_ticks(*domain), format="~g")
    title_x = f"bytes of one client ({size.symbol}), logarithmic"
    scale = alt.Scale(type="log", domain=domain, nice=False)
    x = alt.X("counted:Q", title=title_x, scale=scale, axis=axis)
    every = pl.Series([row["accuracy"] for row in rows])
    y = _y(every)
    colour = _colour(_colours(rows))
    tips: list[Any] = [
        "name:N",
        alt.Tooltip("accuracy:Q", format=".2%"),
        alt.Tooltip("counted:Q", title=f"counted ({size.symbol})", format=".4~g"),
        alt.Tooltip("formula:Q", title=f"formula ({size.symbol})", format=".4~g"),
    ]
    base = alt.Chart(records(frame)).encode(y=y, color=colour, tooltip=tips)
    layers: list[Any] = [
        base.mark_rule(strokeWidth=1, opacity=0.5).encode(x=x, x2="formula:Q"),
        base.mark_tick(thickness=2, size=12, orient="vertical").encode(x=alt.X("formula:Q")),
        base.mark_circle(size=90, opacity=1).encode(x=x),
    ]
    alone = [row for row in rows if not row["counted"]]
    if alone:
        levels = pl.DataFrame(
            [(row["name"], row["accuracy"]) for row in alone],
            schema=["name", "accuracy"],
            orient="row",
        )
        level = alt.Chart(records(levels))
        layers.append(level.mark_rule(strokeDash=[2, 3], color=GREY).encode(y=y))
        layers.append(
            level.mark_text(align="right", dx=-4, dy=-7, color=GREY, fontSize=11).encode(
                x=alt.value(_SIDE), y=y, text="name:N"
            )
        )
    layers += _names(frame, every, y, x)
    title = alt.TitleParams("Test accuracy", subtitle="dot: as counted; tick: by FENS's formula")
    return style(alt.layer(*layers).properties(width=_SIDE, height=_HEIGHT, title=title))


def members_chart(members: Sequence[Mapping[str, Any]]) -> Any:
    """Each member's accuracy alone, by client from the top."""
    shown = members[:_MOST]
    frame = pl.DataFrame(
        {
            "client": [str(member["client"]) for member in shown],
            "accuracy": [member["accuracy"] for member in shown],
            "model": [str(member.get("form", "")) for member in shown],
        }
    )
    order = frame["client"].to_list()
    every = max(1, len(order) // 16)
    bars = alt.Chart(records(frame)).mark_bar(color=palette(1)[0], opacity=0.85).encode(
        x=alt.X("accuracy:Q", title="test accuracy alone", axis=alt.Axis(format="%", tickCount=5),
                scale=alt.Scale(domainMin=0)),
        y=alt.Y("client:O", sort=order, title="client", axis=alt.Axis(values=order[::every])),
        tooltip=["client:N", "model:N", alt.Tooltip("accuracy:Q", format=".2%")],
    )  # fmt: skip
    mean = float(np.mean([member["accuracy"] for member in members]))
    note = f"mean {quantity(mean, 'accuracy')}" + (f", the first {_MOST} of {len(members)}" * (
        len(members) > _MOST))  # fmt: skip
    title = alt.TitleParams("Members alone", subtitle=note)
    height = int(np.clip(9 * len(shown), 140, 340))
    return style(bars.properties(width=WIDTH - 60, height=height, title=title))


def _names(ends: pl.DataFrame, every: pl.Series, y: alt.Y, x: Any) -> list[Any]:
    """Names beside the picture, none upon another, each tied to its point at ``x``."""
    low, high = _bounds(every)
    places = _spread(ends["accuracy"].to_list(), _APART * (high - low), low, high)
    frame = ends.with_columns(at=pl.Series(places, dtype=pl.Float64))
    base = alt.Chart(records(frame)).encode(color=alt.Color("name:N", legend=None))
    edge = alt.value(_SIDE + 7)
    ties = base.mark_rule(strokeWidth=0.7, opacity=0.45).encode(x=x, x2=edge, y=y, y2="at:Q")
    text = base.mark_text(align="left", dx=10, fontSize=11).encode(
        x=alt.value(_SIDE), y=alt.Y("at:Q", scale=_scale(every)), text="name:N"
    )
    return [ties, text]


def _spread(values: list[float], apart: float, low: float, high: float) -> list[float]:
    """Values moved as little as a pass up and a pass down need to keep them ``apart``."""
    order = np.argsort(values, kind="stable")
    moved = np.asarray(values, dtype=float)
    top = high
    for k in order[::-1]:  # from the top down
        moved[k] = min(moved[k], top)
        top = moved[k] - apart
    floor = low
    for k in order:
        moved[k] = max(moved[k], floor)
        floor = moved[k] + apart
    return moved.tolist()


def _bounds(values: pl.Series) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())  # type: ignore[arg-type]
    room = max(0.04 * (high - low), 0.005)
    return low - room, high + room


def _y(values: pl.Series) -> alt.Y:
    axis = alt.Axis(format="%", tickCount=6)
    return alt.Y("accuracy:Q", title="test accuracy", scale=_scale(values), axis=axis)


def _scale(values: pl.Series) -> alt.Scale:
    return alt.Scale(domain=list(_bounds(values)), nice=False, zero=False)


def _colours(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A colour a rule; what rules are compared with is grey."""
    rules = [row["name"] for row in rows if row["kind"] == "rule"]
    chosen = dict(zip(rules, palette(len(rules)), strict=True))
    return {row["name"]: chosen.get(row["name"], GREY) for row in rows}


def _colour(colours: Mapping[str, str]) -> alt.Color:
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color("name:N", scale=scale, legend=None)


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten in a range."""
    candidates = [
        digit * 10.0**power
        for power in range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
        for digit in (1, 2, 5)
    ]
    return [tick for tick in candidates if low <= tick <= high]
