"""``hansa report``: the page and the last figures of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from hansa.cli.answer import answering
from hansa.cli.options import Debug, Json, RunDir

Png = Annotated[
    bool, typer.Option("--png", help="Also write each chart as a PNG, under RUN/pictures.")
]


def report(run: RunDir, png: Png = False, as_json: Json = False, debug: Debug = False) -> None:
    """Write the report of a run anew and print what was last measured."""
    with answering(as_json, debug) as answer:
        from hansa.report import RunFolder
        from hansa.report.ensembles import is_ensemble, rules_table
        from hansa.report.page import write_pictures, write_report
        from hansa.report.tables import final_table

        folder = RunFolder.open(run)
        page = write_report(folder)
        pictures = write_pictures(folder) if png else []
        answer.data = {**(folder.summary or {"run_dir": str(run)}), "report": str(page)}
        if png:
            answer.data["pictures"] = [str(path) for path in pictures]
        answer.table(rules_table(folder) if is_ensemble(folder) else final_table(folder))
        answer.line(f"report  {page}")
        if pictures:
            answer.line(f"charts  {len(pictures)} in {pictures[0].parent}")
