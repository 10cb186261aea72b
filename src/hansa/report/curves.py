"""Curves as one chart with a choice of axes: metrics against rounds, bytes, time and energy.

Only means and extremes a round are put into a chart, never the measurements themselves.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hansa.base.lazy import altair as alt
from hansa.base.lazy import polars as pl
from hansa.report.charts import COLOURS, GREY, HEIGHT, WIDE, WIDTH, dashes, palette, records, style
from hansa.report.series import AXES
from hansa.report.units import Unit, dimension, label, unit

AXIS_WORDS = {
    "round": "round",
    "bytes": "bytes sent",
    "time": "wall time",
    "modelled_time": "modelled time",
    "device_time": "device time",
    "energy": "energy",
}
"""What the axes are called where one is chosen."""
AXIS_TITLES = {
    **AXIS_WORDS,
    "bytes": "sent by all nodes",
    "device_time": "device time of all nodes",
    "energy": "energy of all nodes",
}
DIMENSIONS = {"round": "", "bytes": "B", "energy": "J"}
_LARGE_HEIGHT, _LINE = 400, 150  # pixels, characters of a caption


@dataclass(frozen=True)
class Curves:
    """Lines that are drawn together.

    Attributes:
        lines: by their name in the legend, columns as :func:`hansa.report.series.curve`.
        note: what a line and its band are, in words.
        dots: lone points beside them, with a column ``line``.
        grey: the line that is none of its own.
        thin: by the lines' names, how some of what a line is the mean of went on where it ends;
            columns as those of a line and ``part``, of which each is drawn for itself.
    """

    lines: Mapping[str, pl.DataFrame]
    note: str = ""
    dots: pl.DataFrame | None = None
    grey: str = ""
    thin: Mapping[str, pl.DataFrame] = field(default_factory=dict)

    @property
    def frames(self) -> dict[str, pl.DataFrame]:
        """The lines that have a point."""
        return {name: frame for name, frame in self.lines.items() if len(frame)}


def axes(frames: Iterable[pl.DataFrame]) -> list[str]:
    """The axes along which any of these lines can be drawn."""
    frames = list(frames)
    return [a for a in AXES if a == "round" or any(f[a].max() not in (None, 0) for f in frames)]


def curves_chart(
    curves: Curves,
    family: str,
    *,
    large: bool = False,
    band: float = 0.18,
    domain: list[str] | None = None,
    legend: bool = True,
) -> alt.LayerChart | None:
    """The lines of a family of metrics, with their spread as a band.

    Args:
        curves: what to draw.
        family: a key of :func:`hansa.report.series.families`.
        large: for the width of a page, and with a choice of axes: ``usermeta.views`` then holds
            what each choice changes in the chart.
        band: opacity of the spread; 0: none.
        domain: every name of the legend, also of lines that are not here.
        legend: whether the chart explains its colours.

    Returns:
        The chart, or None if there is no point.
    """
    frames = curves.frames
    if not frames:
        return None
    data = pl.concat([frame.with_columns(line=pl.lit(name)) for name, frame in frames.items()])
    ends = data.clear() if curves.dots is None else curves.dots.select(data.columns)
    further = [frame.with_columns(line=pl.lit(name)) for name, frame in curves.thin.items()]
    thin = pl.concat(further or [data.clear().with_columns(part=pl.lit(0, pl.Int64))])
    both = pl.concat([data, ends, thin.select(data.columns)])
    chosen = axes([both]) if large else ["round"]
    units = {axis: unit(_largest(both, axis), DIMENSIONS.get(axis, "s")) for axis in chosen}
    kind = dimension(family)
    down = unit(_largest(both, "high"), kind)
    small: list[Any] = [pl.col("mean", "low", "high") / down.size, "line"]
    small += [pl.col(axis) / units[axis].size for axis in chosen if axis != "round"]
    data, ends, both = (frame.select(["round", *small]) for frame in (data, ends, both))
    thin = thin.select(["round", *small, "part"])
    low, high = float(both["low"].min()), float(both["high"].max())  # type: ignore[arg-type]
    log = family == "consensus_distance" and low > 0 and high > 10 * low
    names = domain or list(frames)
    looks = _Looks.of(names, curves, legend and (len(frames) > 1 or domain is not None))
    y = alt.Y(
        "mean:Q",
        title=_title(label(family), down),
        scale=_scale(low, high, log, kind),
        axis=_ticks(kind, low, high, log),
    )
    base = alt.Chart()  # the data are those of the whole: each layer would copy them
    layers: list[Any] = []
    if band and (data["high"] > data["low"]).any():
        area = base.mark_area(opacity=band)
        layers.append(area.encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=looks.colour))
    line = base.mark_line(strokeWidth=2.5 if large else 2)
    layers.append(line.encode(y=y, color=looks.colour, **looks.dash))
    if len(thin):
        light = alt.Chart(records(thin)).mark_line(strokeWidth=1, opacity=0.7)
        layers.append(light.encode(y=y, color=looks.colour, detail="part:N"))
    tips = _tips(units, down)
    lone = [name for name, frame in frames.items() if len(frame) == 1]  # a point has no line
    if lone:
        alone = base.transform_filter(alt.FieldOneOfPredicate("line", lone))
        layers.append(alone.mark_circle(size=70, opacity=1).encode(y=y, color=looks.colour))
    layers.append(
        base.mark_circle(size=70, opacity=0).encode(y=y, color=looks.colour, tooltip=tips)
    )
    if len(ends):
        circles = alt.Chart(records(ends)).mark_circle(size=70, opacity=1)
        layers.append(circles.encode(y=y, color=looks.colour, tooltip=tips))
    across = {a: _across(both[a].drop_nulls(), a, _title(AXIS_TITLES[a], units[a])) for a in chosen}
    views = [{"words": AXIS_WORDS[a], "change": {"encoding": {"x": across[a]}}} for a in chosen]
    heading = label(family)
    chart = alt.layer(
        *layers,
        data=records(data),
        width=WIDE if large else WIDTH,
        height=_LARGE_HEIGHT if large else HEIGHT,
        title=alt.TitleParams(
            heading[0].upper() + heading[1:],
            subtitle=textwrap.wrap(curves.note, _LINE if large else _LINE // 2),
        ),
        usermeta={"views": views} if len(views) > 1 else {},
    )
    chart.encoding = {"x": across["round"]}
    return style(chart)


@dataclass(frozen=True)
class _Looks:
    """How lines are told apart."""

    colour: Any
    dash: dict[str, Any]

    @classmethod
    def of(cls, names: list[str], curves: Curves, legend: bool) -> _Looks:
        explained = alt.Legend(
            orient="bottom",
            title=None,
            columns=3 if max(map(len, names)) < 22 else 1 + (max(map(len, names)) < 34),
            symbolType="stroke",
            symbolOpacity=1,
            symbolStrokeWidth=3,
            symbolSize=260,
        )
        shown = explained if legend else None
        colours = palette(len(names))
        if curves.grey in names:
            colours[names.index(curves.grey)] = GREY
        scale = alt.Scale(domain=names, range=colours)
        dash = {}
        if len(names) > len(COLOURS):  # the same legend: both in one swatch
            dashed = alt.Scale(domain=names, range=dashes(len(names)))
            dash["strokeDash"] = alt.StrokeDash("line:N", scale=dashed, legend=shown)
        return cls(alt.Color("line:N", scale=scale, legend=shown), dash)


def _tips(units: Mapping[str, Unit], down: Unit) -> list[Any]:
    """What is said of a point: what was spent by then, too."""
    spent = [
        alt.Tooltip(f"{axis}:Q", title=_title(AXIS_TITLES[axis], size), format=".4~g")
        for axis, size in units.items()
    ]
    tips = [
        alt.Tooltip(f"{column}:Q", title=_title(column, down), format=".4~g")
        for column in ("mean", "low", "high")
    ]
    return [alt.Tooltip("line:N", title=" "), *tips, *spent]


def _across(places: pl.Series, axis: str, title: str) -> dict[str, Any]:
    """The x axis; a single place is its only tick, in the middle."""
    encoding: dict[str, Any] = {"field": axis, "type": "quantitative", "title": title}
    if places.n_unique() > 1:
        whole = {"tickMinStep": 1} if axis == "round" else {}
        return {**encoding, "axis": {"tickCount": 8, **whole}}
    place = float(places[0])
    around = max(1.0, abs(place))
    scale = {"domain": [place - around, place + around], "nice": False}
    return {**encoding, "axis": {"values": [place], "format": ".4~g"}, "scale": scale}


def _scale(low: float, high: float, log: bool, kind: str = "") -> alt.Scale:
    """The scale of the y axis; what hardly changes is drawn as a flat line."""
    if low == high:
        return alt.Scale(domain=[0, 1] if kind == "share" else sorted([0, 2 * high or 1]))
    if log:
        return alt.Scale(type="log", nice=False)
    if 0 < high - low < 2e-3 * abs(high):
        return alt.Scale(domain=[low - 0.1 * abs(low), high + 0.1 * abs(high)], nice=True)
    return alt.Scale(zero=False, nice=True)


def _ticks(kind: str, low: float, high: float, log: bool) -> alt.Axis:
    """The y axis from ``low`` to ``high``; powers of ten on a logarithmic one that holds a few."""
    if kind == "share":
        return alt.Axis(tickCount=6, format="%")
    if not log:  # what diverged would show all digits of a rounded number
        huge = max(abs(low), abs(high)) >= 1e9
        return alt.Axis(tickCount=6, format="~g") if huge else alt.Axis(tickCount=6)
    powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    if len(powers) < 2:
        return alt.Axis(tickCount=6, format="~g")
    step = 1 + len(powers) // 8
    return alt.Axis(values=[10.0**power for power in powers[::step]], format="~g")


def _largest(data: pl.DataFrame, column: str) -> float:
    return float(data[column].abs().max() or 0)  # type: ignore[arg-type]


def _title(words: str, unit: Unit) -> str:
    return f"{words} ({unit.symbol})" if unit.symbol else words
