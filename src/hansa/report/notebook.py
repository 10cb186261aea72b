"""A run as a notebook shows it: what it was, last figures, main chart, the way to its page."""

from __future__ import annotations

import contextlib
import html
from typing import TYPE_CHECKING, Any

from hansa.base.errors import HansaError
from hansa.report.charts import spec_of, vega_lite_version
from hansa.report.page import REPORT, page_of

if TYPE_CHECKING:
    from hansa.report.folder import RunFolder
    from hansa.report.page import Page

_ROWS = 8


def card(run: RunFolder) -> str:
    """HTML that needs no script and no network.

    A run that goes on, or that has measured nothing yet, is shown as far as it has come.
    """
    page = page_of(run)
    of = page.read(run)
    parts = [
        f"<h4 style='margin:0 0 4px'>{html.escape(page.headline(of))}</h4>",
        f"<p style='margin:0 0 6px'>{html.escape(page.sentence(of))}</p>",
        _table(page, of),
        _chart(page, of),
    ]
    place = run.path / REPORT
    where = html.escape(str(run.path))
    if place.is_file():
        link = html.escape(place.resolve().as_uri())
        parts.append(f"<p><a href='{link}'>The run's page</a> in <code>{where}</code></p>")
    else:
        parts.append(f"<p>In <code>{where}</code>; it has no page yet.</p>")
    return f"<div class='hansa-run' style='max-width:980px'>{''.join(filter(None, parts))}</div>"


def _table(page: Page, of: Any) -> str:
    grid = page.table(of)
    if not grid.rows:
        return ""
    head = "".join(f"<th style='text-align:left'>{html.escape(c)}</th>" for c in grid.columns)
    rows = [
        "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in row)
        for row in grid.rows[:_ROWS]
    ]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _chart(page: Page, of: Any) -> str:
    """The first chart as SVG; nothing where there is none that can be drawn yet."""
    import vl_convert

    charts: list[Any] = []
    with contextlib.suppress(HansaError):  # a run that has just begun lacks what a chart needs
        charts = [chart for section in page.sections(of)[:3] for chart in section.charts]
    if not charts:
        return ""
    svg = vl_convert.vegalite_to_svg(spec_of(charts[0]), vl_version=vega_lite_version())
    return "<div>" + svg.replace("<svg ", "<svg style='max-width:100%;height:auto' ", 1) + "</div>"
