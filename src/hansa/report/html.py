"""Writes pages as single HTML files that work without a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hansa.base.files import atomic_write
from hansa.report import charts
from hansa.report.library import library
from hansa.report.page import Section, Tile


@dataclass
class Content:
    """What stands on a page, from the top.

    Attributes:
        legend: (name, colour, dashes) of lines that the first table and the charts share.
    """

    title: str
    sentence: str = ""
    subtitle: str = ""
    status: str = ""
    notes: Sequence[str] = ()
    tiles: Sequence[Tile] = ()
    sections: Sequence[Section] = ()
    legend: Sequence[tuple[str, str, list[int]]] = field(default_factory=list)


def write_html(path: Path, content: Content) -> Path:
    """Write a page, whole or not at all, and return its path."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    kept = [section for section in content.sections if section]
    drawn = any(section.charts for section in kept)
    text = environment.get_template("template.html").render(
        page=content,
        sections=kept,
        script=library(charts.vega_lite_version()) if drawn else "",
        spec=_spec,
        views=charts.views,
        is_wide=_is_wide,
    )
    with atomic_write(path, "w") as file:
        file.write(text)
    return path


def _spec(chart: Any) -> str:
    """A chart as JSON that may stand inside a script element."""
    text = json.dumps(charts.spec_of(chart), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _is_wide(chart: Any) -> bool:
    """Whether a chart takes a line of the page for itself."""
    return float(chart.width) > 2 * charts.WIDTH
