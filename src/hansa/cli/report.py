"""``hansa report``: the page and the last figures of a run."""

from __future__ import annotations

from hansa.cli.answer import answering
from hansa.cli.options import Debug, Json, RunDir


def report(run: RunDir, as_json: Json = False, debug: Debug = False) -> None:
    """Write the report of a run anew and print what was last measured."""
    with answering(as_json, debug) as answer:
        from hansa.report import RunFolder
        from hansa.report.page import write_report
        from hansa.report.tables import final_table

        folder = RunFolder.open(run)
        page = write_report(folder)
        answer.data = {**(folder.summary or {"run_dir": str(run)}), "report": str(page)}
        answer.table(final_table(folder))
        answer.line(f"report  {page}")
