"""Curves as Vega-Lite charts: metrics against rounds, bytes, time and energy.

Only means and extremes a round are put into a chart, never the measurements themselves.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hansa.base.lazy import altair as alt
from hansa.base.lazy import polars as pl
from hansa.report.cohort_curves import MERGED, along, apart, cohort_curves, points
from hansa.report.series import AXES, Line, curve, families, progress, thinned
from hansa.report.units import Unit, dimension, label, unit

# Okabe and Ito's colours, told apart by colour-blind readers; yellow is too pale for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#6a727b"  # of what is no line
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
WIDTH, HEIGHT = 440, 250
_AXIS_WORDS = {
    "round": "round",
    "bytes": "sent by all nodes",
    "time": "wall time",
    "modelled_time": "modelled time",
    "device_time": "device time of all nodes",
    "energy": "energy of all nodes",
}
_BY = {"bytes": "bytes sent", "time": "wall time", "energy": "energy"}
_AXIS_DIMENSIONS = {
    "round": "",
    "bytes": "B",
    "time": "s",
    "modelled_time": "s",
    "device_time": "s",
    "energy": "J",
}


def metric_chart(metrics: pl.DataFrame, family: str, axis: str = "round") -> alt.LayerChart | None:
    """One run's curves of a family, with the spread over nodes as a band.

    Args:
        metrics: measurements in long format.
        family: a key of :func:`hansa.report.series.families`.
        axis: one of :data:`hansa.report.series.AXES`.

    Returns:
        The chart, or None if nothing was measured against that axis.
    """
    if cohorts := cohort_curves(metrics, family, axis):
        merged = ", the merged model as a dot" if MERGED in cohorts else ""
        return _draw(cohorts, family, axis, f"a line a cohort{merged}", band=0.0)
    lines = families(metrics)[family]
    frames = {line.label: curve(metrics, line, axis) for line in lines}
    return _draw(frames, family, axis, _explain(lines, frames), band=0.18)


def comparison_chart(
    runs: Mapping[str, pl.DataFrame], family: str, axis: str = "round", *, legend: bool = True
) -> alt.LayerChart | None:
    """The family's first line of several runs, one colour a run.

    Args:
        runs: measurements by the name the run has in the legend.
        family: what to compare; runs without it are left out.
        axis: one of :data:`hansa.report.series.AXES`.
        legend: whether the chart explains its colours.
    """
    frames, merged, who = {}, [], set()
    for name, metrics in runs.items():
        lines = families(metrics).get(family)
        if lines:
            rest, last = apart(metrics, family)
            frames[name] = curve(rest, lines[0], axis)
            merged.append(points(last, along(metrics, axis)).with_columns(line=pl.lit(name)))
            who |= {lines[0].label.partition(",")[0]} - {"server", "run", "mean"}
    band = 0.12 if len(frames) <= 3 else 0.0
    note = f"mean of the {' or '.join(sorted(who))}" + ", min to max shaded" * bool(band)
    if not who or all((frame["nodes"] == 1).all() for frame in frames.values()):
        note = ""
    apart_ = pl.concat(merged) if merged else None
    if apart_ is not None and len(apart_):
        note += "; a dot: what cohorts merged into"
    return _draw(
        frames, family, axis, note, band=band, domain=list(runs), legend=legend, dots=apart_
    )


def traffic_chart(metrics: pl.DataFrame) -> alt.LayerChart | None:
    """What all servers and what all clients had sent by each round."""
    rows = metrics.filter((pl.col("name") == "bytes_sent") & pl.col("node").is_not_null())
    value = pl.col("value").sum()
    sums = rows.group_by("round", "server").agg(mean=value, low=value, high=value, nodes=pl.lit(1))
    sums = sums.with_columns(x=pl.col("round").cast(pl.Float64)).sort("round")
    frames = {
        words: thinned(sums.filter(pl.col("server") == host).drop("server"))
        for words, host in (("down, from servers", True), ("up, from clients", False))
    }
    return _draw(frames, "bytes_sent", "round", "sums over nodes", band=0.0)


def axes(metrics: pl.DataFrame) -> list[str]:
    """The axes on which this run can be drawn."""
    spent = progress(metrics)
    return [axis for axis in AXES if axis == "round" or spent[axis].max() not in (None, 0)]


def style(chart: Any) -> Any:
    """The house style, applied to a whole chart."""
    grey, ink, font = "#e6e8eb", "#3a4148", "system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"
    axis = {
        "gridColor": grey,
        "domainColor": "#b8bec5",
        "tickColor": "#b8bec5",
        "tickSize": 4,
        "labelFlush": False,
    }
    text = {"labelColor": ink, "titleColor": ink, "labelFontSize": 11, "titleFontSize": 12}
    # Set, not configured: each of Altair's own ways would copy the whole chart with its data.
    chart.config = {
        "font": font,
        "background": "white",
        "padding": 6,
        "view": {"stroke": None},
        "axis": {
            **axis, **text, "titleFontWeight": "normal", "titlePadding": 8, "labelPadding": 4,
        },
        "title": {
            "anchor": "start", "color": "#1c2024", "fontSize": 14, "fontWeight": 600, "offset": 10,
            "subtitleColor": "#6a727b", "subtitleFontSize": 11, "subtitlePadding": 4,
        },
        "legend": {
            "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal",
            "labelLimit": 380, "labelColor": ink, "titleColor": ink,
        },
    }  # fmt: skip
    return chart


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Charts are made without Altair's checks, which take longer than the drawing."""
    with alt.utils.schemapi.debug_mode(False):
        yield


def spec_of(chart: Any) -> dict[str, Any]:
    """A chart as Vega-Lite. Its form is checked by the tests, not anew for every page."""
    return chart.to_dict(validate=False)


def save_png(chart: Any, path: str | Path, *, scale: float = 2.0) -> Path:
    """Write a chart as a PNG, ``scale`` pixels to each of its own."""
    import vl_convert

    from hansa.base.files import atomic_write

    path = Path(path)
    image = vl_convert.vegalite_to_png(spec_of(chart), vl_version=vega_lite_version(), scale=scale)
    with atomic_write(path) as file:
        file.write(image)
    return path


def vega_lite_version() -> str:
    """The version of Vega-Lite that the installed Altair writes, such as ``6.4``."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def records(frame: pl.DataFrame) -> alt.InlineData:
    """The rows as inline data, to six significant digits, without what is not finite."""
    rows = [
        {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()}
        for row in frame.to_dicts()
    ]
    return alt.InlineData(values=rows)


def _draw(
    frames: dict[str, pl.DataFrame],
    family: str,
    axis: str,
    note: str,
    *,
    band: float,
    domain: list[str] | None = None,
    legend: bool = True,
    dots: pl.DataFrame | None = None,
) -> alt.LayerChart | None:
    frames = {name: frame for name, frame in frames.items() if len(frame)}
    if not frames:
        return None
    data = pl.concat([frame.with_columns(line=pl.lit(name)) for name, frame in frames.items()])
    ends = data.clear() if dots is None else dots.select(data.columns)
    kind = dimension(family)
    down = unit(_largest(data, "high"), kind)
    across = unit(_largest(data, "x"), _AXIS_DIMENSIONS[axis])
    small = (pl.col("x") / across.size, pl.col("mean", "low", "high") / down.size)
    data, ends = data.with_columns(small), ends.with_columns(small)
    low, high = float(min(data["low"])), float(max(data["high"]))
    log = family == "consensus_distance" and low > 0 and high > 10 * low
    names = domain or list(frames)
    x = _across(sorted(set(data["x"])), axis, _title(_AXIS_WORDS[axis], across))
    y = alt.Y(
        "mean:Q",
        title=_title(label(family), down),
        scale=_scale(low, high, log, kind),
        axis=_ticks(kind, low, high, log),
    )
    shown = len(frames) > 1 or domain is not None
    explained = alt.Legend(
        orient="bottom",
        title=None,
        columns=3 if max(map(len, names)) < 22 else 1 + (max(map(len, names)) < 34),
        symbolType="stroke",
        symbolOpacity=1,
        symbolStrokeWidth=3,
        symbolSize=260,
    )
    colour = alt.Color(
        "line:N",
        scale=alt.Scale(domain=names, range=_colours(names)),
        legend=explained if legend and shown else None,
    )
    base = alt.Chart()  # the data are those of the whole: each layer would copy them
    layers: list[Any] = []
    if band and (data["high"] > data["low"]).any():
        area = base.transform_filter("datum.high > datum.low").mark_area(opacity=band)
        layers.append(area.encode(x=x, y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=colour))
    dash: dict[str, Any] = {}
    if len(names) > len(COLOURS):
        scale = alt.Scale(domain=names, range=dashes(len(names)))
        told = explained if legend and shown else None  # the same legend: both in one swatch
        dash["strokeDash"] = alt.StrokeDash("line:N", scale=scale, legend=told)
    layers.append(base.mark_line(strokeWidth=2).encode(x=x, y=y, color=colour, **dash))
    tips = [
        alt.Tooltip("line:N", title=" "),
        alt.Tooltip("round:Q"),
        alt.Tooltip("x:Q", title=_title(_AXIS_WORDS[axis], across), format=".4~g"),
        *(
            alt.Tooltip(f"{column}:Q", title=_title(column, down), format=".4~g")
            for column in ("mean", "low", "high")
        ),
    ]
    lone = [name for name, frame in frames.items() if len(frame) == 1]  # a point has no line
    if lone:
        alone = base.transform_filter(alt.FieldOneOfPredicate("line", lone))
        layers.append(alone.mark_circle(size=70, opacity=1).encode(x=x, y=y, color=colour))
    marks = base.mark_circle(size=70, opacity=0).encode(x=x, y=y, color=colour, tooltip=tips)
    if len(ends):
        circles = alt.Chart(records(ends)).mark_circle(size=70, opacity=1)
        layers.append(circles.encode(x=x, y=y, color=colour, tooltip=tips))
    heading = (
        label(family) if axis == "round" else f"{label(family)} by {_BY.get(axis, label(axis))}"
    )
    title = alt.TitleParams(heading[0].upper() + heading[1:], subtitle=note or [])
    drawn = alt.layer(*layers, marks, data=records(data), width=WIDTH, height=HEIGHT, title=title)
    return style(drawn)


def _colours(names: list[str]) -> list[str]:
    """The lines' colours; grey is kept for what is no line of its own."""
    chosen = zip(names, palette(len(names)), strict=True)
    return [GREY if name == MERGED else colour for name, colour in chosen]


def palette(size: int) -> list[str]:
    """The colours of ``size`` lines."""
    return [COLOURS[index % len(COLOURS)] for index in range(size)]


def dashes(size: int) -> list[list[int]]:
    """How the lines are dashed, so that no two of ``size`` look alike (up to 28)."""
    return [list(DASHES[index // len(COLOURS) % len(DASHES)]) for index in range(size)]


def _across(places: list[float], axis: str, title: str) -> alt.X:
    """The x axis; a single place is its only tick, in the middle."""
    if len(places) > 1:
        ticks: dict[str, Any] = {"tickMinStep": 1} if axis == "round" else {}
        return alt.X("x:Q", title=title, axis=alt.Axis(tickCount=6, **ticks))
    (place,) = places
    around = max(1.0, abs(place))
    scale = alt.Scale(domain=[place - around, place + around], nice=False)
    return alt.X("x:Q", title=title, axis=alt.Axis(values=[place], format=".4~g"), scale=scale)


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


def _explain(lines: list[Line], frames: dict[str, pl.DataFrame]) -> str:
    if any(line.low for line in lines):
        return "mean, min to max shaded"
    counts = {
        line.label.partition(",")[0]: max(frames[line.label]["nodes"].to_list(), default=1)
        for line in lines
    }
    who, nodes = max(counts.items(), key=lambda item: item[1])
    return f"mean of {nodes} {who}, min to max shaded" if nodes > 1 else ""


def _largest(data: pl.DataFrame, column: str) -> float:
    return float(data[column].abs().max() or 0)  # type: ignore[arg-type]


def _title(words: str, unit: Unit) -> str:
    return f"{words} ({unit.symbol})" if unit.symbol else words
