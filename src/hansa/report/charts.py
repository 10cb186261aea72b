"""What every chart has in common: colours, the house style, and how it is written."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hansa.base.lazy import altair as alt
from hansa.base.lazy import polars as pl

# Okabe and Ito's colours, told apart by colour-blind readers; yellow is too pale for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#6a727b"  # of what is no line
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [12, 3], [1, 4], [8, 3, 2, 3, 2, 3])
WIDTH, HEIGHT = 440, 250
WIDE = 960  # of a chart that takes a line of the page for itself


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


def views(chart: Any) -> list[dict[str, Any]]:
    """The choices that a chart offers: words, and the parts of its form that change."""
    meta = chart.usermeta if isinstance(getattr(chart, "usermeta", None), dict) else {}
    return meta.get("views", [])


def save_png(
    chart: Any, path: str | Path, *, change: dict[str, Any] | None = None, scale: float = 2.0
) -> Path:
    """Write a chart, or one of its views, as a PNG, ``scale`` pixels to each of its own."""
    import vl_convert

    from hansa.base.files import atomic_write

    path = Path(path)
    image = vl_convert.vegalite_to_png(
        {**spec_of(chart), **(change or {})}, vl_version=vega_lite_version(), scale=scale
    )
    with atomic_write(path) as file:
        file.write(image)
    return path


def vega_lite_version() -> str:
    """The version of Vega-Lite that the installed Altair writes, such as ``6.4``."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def records(frame: pl.DataFrame) -> alt.InlineData:
    """The rows as inline data, to six significant digits, without what is not finite."""
    rows = [{k: _short(v) for k, v in row.items()} for row in frame.to_dicts()]
    return alt.InlineData(values=rows)


def _short(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None


def palette(size: int) -> list[str]:
    """The colours of ``size`` lines."""
    return [COLOURS[index % len(COLOURS)] for index in range(size)]


def dashes(size: int) -> list[list[int]]:
    """How the lines are dashed, so that no two of ``size`` look alike (up to 49)."""
    return [list(DASHES[index // len(COLOURS) % len(DASHES)]) for index in range(size)]
