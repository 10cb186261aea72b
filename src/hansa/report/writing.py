"""Writes the page of a folder, and its charts as pictures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hansa.report import charts
from hansa.report.folder import RunFolder
from hansa.report.html import Content, write_html
from hansa.report.marks import mark_titles, marked, warning
from hansa.report.page import REPORT, page_of, run_or_path


@charts.unchecked()
def write_report(folder: RunFolder | str | Path) -> Path:
    """Write ``report.html`` into a folder, by the page that claims it, and return its path.

    Raises:
        CheckpointError: no page knows such a folder, or a file in it is corrupt.
    """
    where = run_or_path(folder)
    page = page_of(where)
    of = page.read(where)
    sections, marks = page.sections(of), where.marks if isinstance(where, RunFolder) else {}
    mark_titles((chart for part in sections for chart in part.charts), marks)
    content = Content(
        title=marked(page.headline(of), marks),
        sentence=page.sentence(of),
        subtitle=page.subtitle(of),
        status=page.status(of),
        notes=[*([warning(marks)] if marks else []), *page.notes(of)],
        tiles=page.tiles(of),
        sections=sections,
    )
    return write_html((where.path if isinstance(where, RunFolder) else where) / REPORT, content)


@charts.unchecked()
def write_pictures(folder: RunFolder | str | Path) -> list[Path]:
    """Write every chart of a folder's page, in all its views, as a PNG under ``pictures``."""
    where = run_or_path(folder)
    page = page_of(where)
    path = where.path if isinstance(where, RunFolder) else where
    drawn = [chart for part in page.sections(page.read(where)) for chart in part.charts]
    mark_titles(drawn, where.marks if isinstance(where, RunFolder) else {})
    return [picture for chart in drawn for picture in _save(chart, path / "pictures")]


def _save(chart: Any, path: Path) -> list[Path]:
    title = chart.title if isinstance(chart.title, str) else chart.title.text
    files = []
    for number, view in enumerate(charts.views(chart) or [{"words": "", "change": {}}]):
        words = f"{title} by {view['words']}" if number else title
        name = re.sub(r"\W+", "_", words.lower()).strip("_")
        files.append(charts.save_png(chart, path / f"{name}.png", change=view["change"]))
    return files
