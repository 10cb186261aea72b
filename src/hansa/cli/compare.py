"""``hansa compare``: several runs in one table and on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hansa.base.errors import ConfigError
from hansa.cli import completion
from hansa.cli.answer import answering
from hansa.cli.options import Debug, Json, Plugins

Runs = Annotated[
    list[Path],
    typer.Argument(metavar="RUN...", help="Run folders.", autocompletion=completion.runs),
]
_NAMED = 12
Page = Annotated[Path, typer.Option("--out", help="The page to write.", metavar="PAGE.html")]


def compare(
    runs: Runs,
    out: Page = Path("comparison.html"),
    plugin: Plugins = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare runs: what differs between them, what each reached and what it spent.

    Runs that differ in their seed alone are one line, with a band over the seeds. The folders of
    several sites of one run (hansa node) are put together first.
    """
    with answering(as_json, debug) as answer:
        from hansa.base.modules import load_module
        from hansa.report import RunFolder
        from hansa.report.comparing import comparison, settings_table
        from hansa.report.comparison import write_comparison
        from hansa.report.joining import joined
        from hansa.report.several.seeds_table import settings_of_seeds

        for place in (out, *out.parents):
            if place.is_dir() if place == out else place.is_file():
                what = "is a folder" if place == out else f"{place} is a file"
                raise ConfigError("out", str(out), what, "the name of a page, such as page.html")
        for module in plugin or ():
            load_module(module)
        folders, lines = joined([RunFolder.open(path) for path in runs])
        page = write_comparison(folders, out)
        answer.data = {"runs": comparison(folders) if as_json else [], "page": str(page)}
        answer.table(settings_of_seeds(folders))
        for line in lines:
            answer.line(line)
        differ = [row[0] for row in settings_table(folders).rows]
        if differ:
            rest = len(differ) - _NAMED
            more = f" and {rest} more settings; the page has them all" if rest > 0 else ""
            answer.line(f"They differ in {', '.join(differ[:_NAMED])}{more}.")
        answer.line(f"page  {page}")
