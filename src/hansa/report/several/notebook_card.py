"""Several runs as a notebook shows them: what came of them in words, tables, a chart."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from hansa.report.grid import Grid
from hansa.report.several.paper_chart import PaperChart

_CELL = "padding:2px 8px;white-space:nowrap;text-align:"


def comparison_card(
    sentences: Sequence[str], grids: Sequence[Grid], notes: Sequence[str], chart: PaperChart | None
) -> str:
    """HTML that needs no script and no network.

    Args:
        sentences: what is said first.
        grids: tables; the first stands before the chart.
        notes: what the figures are.
        chart: the curves, if there are any.
    """
    first, *rest = [_table(grid) for grid in grids]
    parts = [f"<p style='margin:0 0 6px'>{escape(' '.join(sentences))}</p>", first]
    if chart is not None:
        svg = chart.svg().replace("<svg ", "<svg style='max-width:100%;height:auto' ", 1)
        caption = f"<figcaption><small>{escape(chart.caption)}</small></figcaption>"
        parts.append(f"<figure style='margin:8px 0'>{svg}{caption}</figure>")
    parts += [*rest, *(f"<p><small>{escape(note)}</small></p>" for note in notes)]
    return f"<div class='hansa-comparison' style='max-width:980px'>{''.join(parts)}</div>"


def _table(grid: Grid) -> str:
    sides = [f"{_CELL}{'left' if grid.is_words(k) else 'right'}" for k in range(len(grid.columns))]
    head = _row("th", grid.columns, [side.replace("nowrap", "normal") for side in sides])
    rows = "".join(_row("td", row, sides) for row in grid.rows)
    title = f"<caption style='text-align:left;font-weight:bold'>{escape(grid.title)}</caption>"
    table = f"<table>{title}<thead>{head}</thead><tbody>{rows}</tbody></table>"
    return f"<div style='overflow-x:auto'>{table}</div>"


def _row(tag: str, cells: Sequence[str], styles: Sequence[str]) -> str:
    inside = "".join(
        f"<{tag} style='{style}'>{escape(cell)}</{tag}>"
        for cell, style in zip(cells, styles, strict=True)
    )
    return f"<tr>{inside}</tr>"
