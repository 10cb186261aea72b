"""One chart of several runs for a paper: small, in vectors, legible and told apart in grey."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hansa.base.errors import ConfigError
from hansa.base.lazy import altair as alt
from hansa.base.lazy import polars as pl
from hansa.report import charts
from hansa.report.comparing import Group, groups_of
from hansa.report.curves import AXIS_TITLES, DIMENSIONS
from hansa.report.folder import RunFolder
from hansa.report.measured import Measured
from hansa.report.page import page_of
from hansa.report.run_page import RunPage
from hansa.report.scores import scores
from hansa.report.series import AXES, COLUMNS, Line, thinned
from hansa.report.several.seed_curves import BANDS, Band, over_seeds
from hansa.report.several.short_names import short_names
from hansa.report.units import dimension, label, unit

COLUMN = 88.0
"""Width of one column of a paper with two, in mm."""
WIDTHS = (40.0, 300.0)
SUFFIXES = (".svg", ".pdf", ".png")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
DASHES = ([1, 0], [5, 2], [1.5, 1.5], [6, 2, 1.5, 2], [3, 1.5], [8, 2], [1, 3])
_MM = 72 / 25.4  # points, of which a paper's fonts are measured
_MARKS, _PPI, _TEXT = 5, 300, 8  # marks of a line; pixels an inch; points
_TALL = 0.62
_POINTS = 200
_BANDS = 6
_FAR, _CUT = 0.8, 3  # of its seeds' rounds: where a line ends sooner, it is said; of so many
_AXIS = 30  # points, left of the legend
_LETTER, _BESIDE = 4.6, 26  # points: of a letter of the legend, and of what stands beside a name
_AGAINST = {"bytes": "bytes sent by all nodes"}


@dataclass(frozen=True)
class PaperChart:
    """A chart and what it shows.

    Attributes:
        chart: in Vega-Lite, one pixel to a point (1/72 inch).
        caption: what its lines and bands are: it belongs under the picture.
        data: its points: line, round, mean, low, high and what was spent by then.
    """

    chart: Any
    caption: str
    data: pl.DataFrame

    def write(self, path: str | Path) -> Path:
        """Write it as SVG, PDF or PNG (300 pixels an inch), by the file's ending.

        Raises:
            ConfigError: it is none of these.
        """
        import vl_convert

        from hansa.base.files import atomic_write

        path = Path(path).expanduser()
        spec, version = charts.spec_of(self.chart), charts.vega_lite_version()
        form = path.suffix.lower()
        if form == ".svg":
            image = vl_convert.vegalite_to_svg(spec, vl_version=version).encode()
        elif form == ".pdf":
            image = vl_convert.vegalite_to_pdf(spec, vl_version=version)
        elif form == ".png":
            image = vl_convert.vegalite_to_png(spec, vl_version=version, scale=1, ppi=_PPI)
        else:
            raise ConfigError("out", str(path), "is no picture", "a name in .svg, .pdf or .png")
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(image)
        return path

    def svg(self) -> str:
        """The picture as SVG text."""
        import vl_convert

        return vl_convert.vegalite_to_svg(
            charts.spec_of(self.chart), vl_version=charts.vega_lite_version()
        )


@charts.unchecked()
def paper_chart(
    folders: Sequence[RunFolder],
    *,
    x: str = "round",
    y: str | None = None,
    band: str = "std",
    width: float = COLUMN,
    groups: Sequence[Group] | None = None,
) -> PaperChart:
    """The curves of a metric in several runs; runs that differ in their seed alone are one line.

    Args:
        folders: the runs.
        x: against what: an axis of :data:`hansa.report.series.AXES`; bytes and energy are those of
            all nodes together.
        y: the metric; None: that by which the runs are judged.
        band: what is drawn around the mean over seeds: one standard deviation (n - 1) to each
            side, the lowest to the highest, or nothing.
        width: of the whole picture, in mm.
        groups: what ``groups_of`` found, where it is at hand.

    Raises:
        ConfigError: there is no such axis, metric, band or width, or nothing to draw.
    """
    check_chart(x, band, width)
    groups = groups or groups_of(folders)
    pages = [page_of(folder) for folder in folders]
    read = [
        (page if isinstance(page, RunPage) else RunPage()).read(folder)
        for page, folder in zip(pages, folders, strict=True)
    ]
    every = list(dict.fromkeys(family for of in read for family in of.families))
    metric = y or next(iter([*scores(every), *every]), "")
    lines: dict[str, pl.DataFrame] = {}
    counts, cut = [], []
    for group in groups:
        curves = [line_of(pages[k], read[k], metric) for k in group.runs]
        own = [frame for frame in curves if frame is not None and frame["mean"].is_finite().any()]
        if own:
            counts.append(len(own))
            drawn: Band = cast(Band, band) if len(own) > 1 else "none"
            lines[group.name] = over_seeds(own, drawn)
            cut += [text for text in [_cut(group.name, lines[group.name], own)] if text]
    lines = {name: thinned(frame, _POINTS) for name, frame in lines.items() if len(frame)}
    if not lines:
        problem = "is measured by no run here" if metric else "the runs measured nothing"
        raise ConfigError("y", y, problem, f"one of {', '.join(every)}" if every else "")
    data = pl.concat([frame.with_columns(line=pl.lit(name)) for name, frame in lines.items()])
    data = data.filter(pl.col(x).is_not_null())
    if not len(data) or (x != "round" and data[x].max() == 0):
        able = [
            a for a in AXES if lines and any(f[a].max() not in (None, 0) for f in lines.values())
        ]
        raise ConfigError("x", x, "is known of no run here", f"one of {', '.join(able)}")
    chart = _chart(data, metric, x, list(lines), width, any(n > 1 for n in counts))
    return PaperChart(chart, _caption(metric, x, band, counts, cut), data.select("line", *COLUMNS))


def check_chart(x: str, band: str, width: float) -> None:
    """Refuse an axis, a band or a width that there is not.

    Raises:
        ConfigError: naming those that there are.
    """
    if x not in AXES:
        raise ConfigError("x", x, "is no axis", f"one of {', '.join(AXES)}")
    if band not in BANDS:
        raise ConfigError("band", band, "is no band", f"one of {', '.join(BANDS)}")
    low, high = WIDTHS
    if not low <= width <= high:
        raise ConfigError("width", width, f"is not between {low:g} and {high:g} mm", "such as 88")


def line_of(page: Any, of: Measured, metric: str) -> pl.DataFrame | None:
    """The curve of a family of metrics, or of a metric in one, in a run; None if it has none."""
    if metric in of.families:
        shown = page if isinstance(page, RunPage) else RunPage()
        return shown.compared(of, metric).lines[""]
    every: list[Line] = [line for lines in of.families.values() for line in lines]
    return next((of.curve(line) for line in every if line.name == metric), None)


def _chart(
    data: pl.DataFrame, metric: str, x: str, names: list[str], width: float, banded: bool
) -> Any:
    kind = dimension(metric)
    across = unit(float(data[x].max() or 0), DIMENSIONS.get(x, "s"))  # type: ignore[arg-type]
    down = unit(float(data["high"].abs().max() or 0), kind)  # type: ignore[arg-type]
    drawn = data.select(
        "line",
        (pl.col(x) / across.size).alias("x"),
        pl.col("mean", "low", "high") / (0.01 if kind == "share" else down.size),
    )
    points = width * _MM
    short = short_names(names, max(8, int((points - _AXIS - _BESIDE) / _LETTER)))
    drawn = drawn.with_columns(pl.col("line").replace_strict(dict(zip(names, short, strict=True))))
    names = short
    symbol = "%" if kind == "share" else down.symbol
    marks = pl.concat(
        [
            thinned(frame, _MARKS + k % 3)
            for k, frame in enumerate(drawn.partition_by("line", maintain_order=True))
        ]
    )
    longest = max(map(len, names))
    columns = max(1, min(len(names), int((points - _AXIS) / (_BESIDE + _LETTER * longest))))
    legend = alt.Legend(
        orient="top", direction="horizontal", title=None, columns=columns, labelLimit=points - 40,
        symbolSize=45, symbolOpacity=1, symbolStrokeWidth=0, rowPadding=1, symbolLimit=0,
        columnPadding=8, offset=4,
    )  # fmt: skip
    shown = legend if len(names) > 1 else None
    size = len(names)
    colour = alt.Color(
        "line:N", scale=alt.Scale(domain=names, range=charts.palette(size)), legend=shown
    )
    dash = alt.Scale(domain=names, range=[list(DASHES[(k + k // 7) % 7]) for k in range(size)])
    shape = alt.Scale(domain=names, range=[SHAPES[(k + 2 * (k // 7)) % 7] for k in range(size)])
    base = alt.Chart(charts.records(drawn))
    at = alt.X(
        "x:Q",
        title=_title(_AGAINST.get(x, AXIS_TITLES[x]), across.symbol),
        axis=alt.Axis(tickCount=5),
    )
    up = alt.Y(
        "mean:Q",
        title=_title(label(metric), symbol),
        scale=alt.Scale(zero=False, nice=True),
        axis=alt.Axis(tickCount=5),
    )
    layers: list[Any] = []
    if banded and (drawn["high"] > drawn["low"]).any():
        area = base.mark_area(opacity=0.16 if size <= _BANDS else 0.08)
        layers.append(area.encode(x=at, y=alt.Y("low:Q"), y2="high:Q", color=colour))
    layers.append(
        base.mark_line(strokeWidth=1.3).encode(
            x=at, y=up, color=colour, strokeDash=alt.StrokeDash("line:N", scale=dash, legend=None)
        )
    )
    layers.append(
        alt.Chart(charts.records(marks))
        .mark_point(filled=True, size=26, opacity=1)
        .encode(x=at, y=up, color=colour, shape=alt.Shape("line:N", scale=shape, legend=shown))
    )
    rows = -(-len(names) // columns) if shown else 0
    chart = alt.layer(
        *layers,
        width=round(points),
        height=round(_TALL * points) + 11 * max(0, rows - 1),
        autosize=alt.AutoSizeParams(type="fit", contains="padding"),
    )
    return _style(chart)


def _style(chart: Any) -> Any:
    charts.style(chart)
    config = chart.config
    config["font"] = "Arial, Helvetica, 'Liberation Sans', sans-serif"
    config["padding"] = 1
    text = {"labelFontSize": _TEXT, "titleFontSize": _TEXT, "labelColor": "black"}
    config["axis"] |= {**text, "titleColor": "black", "titlePadding": 4, "tickSize": 3}
    config["legend"] |= {**text, "labelFontSize": _TEXT}
    return chart


def _cut(name: str, line: pl.DataFrame, own: Sequence[pl.DataFrame]) -> str:
    """How far a line goes, where a seed that stopped early keeps most of the others from view."""
    ends = [frame.filter(pl.col("mean").is_finite())["round"].to_list()[-1] for frame in own]
    far = max(line["round"].to_list(), default=0)
    return f"{name} to round {far} of {max(ends)}" if far < _FAR * max(ends) else ""


def _caption(metric: str, x: str, band: str, counts: Sequence[int], cut: Sequence[str] = ()) -> str:
    words = label(metric)
    against = _AGAINST.get(x, AXIS_TITLES[x])
    text = f"{words[0].upper()}{words[1:]} against {against}."
    if max(counts) < 2:
        return f"{text} Line: a run."
    low, high = min(counts), max(counts)
    many = f"{high}" if low == high else f"{low} to {high}"
    shown = {"std": "one standard deviation (n − 1) to each side", "range": "min to max"}
    over = f"; band: {shown[band]}" if band in shown else ""
    ends = f" ({', '.join(cut[:_CUT])}{', …' * (len(cut) > _CUT)})" if cut else ""
    return f"{text} Line: mean of {many} seeds, as far as all of them got{ends}{over}."


def _title(words: str, symbol: str) -> str:
    return f"{words} ({symbol})" if symbol else words
