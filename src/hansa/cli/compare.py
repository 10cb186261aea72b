"""``hansa compare``: several runs in one table and on one page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.cli.answer import answering
from hansa.cli.options import Debug, Json

if TYPE_CHECKING:
    from hansa.report.tables import Grid

_SETTINGS = 3  # columns of settings that fit beside the figures
Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")]
Page = Annotated[Path, typer.Option("--out", help="The page to write.", metavar="PAGE.html")]


def compare(
    runs: Runs, out: Page = Path("comparison.html"), as_json: Json = False, debug: Debug = False
) -> None:
    """Compare runs: what differs between them, what each reached and what it spent."""
    with answering(as_json, debug) as answer:
        from hansa.report import RunFolder
        from hansa.report.page import write_comparison
        from hansa.report.tables import comparison, comparison_table

        folders = [RunFolder.open(path) for path in runs]
        page = write_comparison(folders, out)
        answer.data = {"runs": comparison(folders) if as_json else [], "page": str(page)}
        grid = comparison_table(folders)
        answer.table(narrow(grid))
        if grid.words > _SETTINGS + 1:
            answer.line(f"They differ in {', '.join(grid.columns[1 : grid.words])}.")
        answer.line(f"page  {page}")


def narrow(grid: Grid) -> Grid:
    """The table without its columns of settings, if they are too many for a terminal."""
    if grid.words <= _SETTINGS + 1:
        return grid
    rows = [[row[0], *row[grid.words :]] for row in grid.rows]
    return replace(grid, columns=[grid.columns[0], *grid.columns[grid.words :]], rows=rows, words=1)
