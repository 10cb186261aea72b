"""``hansa report``: the page and the last figures of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hansa.base.telling import say
from hansa.cli.answer import answering
from hansa.cli.options import All, Debug, Json, Plugins, RunDir

if TYPE_CHECKING:
    from hansa.report import RunFolder

Png = Annotated[
    bool, typer.Option("--png", help="Also write each chart as a PNG, under RUN/pictures.")
]


def report(
    run: RunDir,
    png: Png = False,
    every: All = False,
    plugin: Plugins = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the report of a run anew and print what was last measured.

    RUN may also be the folder of a request to forget. --plugin makes pages of yours known.
    """
    with answering(as_json, debug) as answer:
        from hansa.base.modules import load_module
        from hansa.report import RunFolder
        from hansa.report.page import final, run_or_path

        for module in plugin or ():
            load_module(module)
        folder = run_or_path(run)  # told before what draws charts is imported
        from hansa.report.writing import write_pictures, write_report

        page = write_report(folder)
        pictures = write_pictures(folder) if png else []
        summary = folder.summary if isinstance(folder, RunFolder) else None
        answer.data = {**(summary or {"run_dir": str(run)}), "report": str(page)}
        if png:
            answer.data["pictures"] = [str(path) for path in pictures]
        grid = final(folder, every=every)
        if grid.rows:
            answer.table(grid)
        else:
            why = _why(folder) if isinstance(folder, RunFolder) else ""
            say(f"warning: nothing was measured in {run}, so its page has no figures{why}")
        answer.line(f"report  {page}")
        if pictures:
            answer.line(f"charts  {len(pictures)} in {pictures[0].parent}")


def _why(folder: RunFolder) -> str:
    """Why nothing was measured, as far as the run's folder tells."""
    failed = [event for event in folder.events() if event["kind"] == "failed"]
    if failed:
        return f"; it failed: {failed[-1]['error']}"
    if folder.summary is None:
        return "; it is at its first round, or was ended before that was over"
    return f"; it is {folder.summary.get('status', 'unfinished')}"
