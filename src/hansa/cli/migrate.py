"""``hansa migrate``: run folders and run files of earlier versions in today's form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hansa.cli import completion
from hansa.cli.answer import answering
from hansa.cli.options import Debug, Json

Place = Annotated[
    Path,
    typer.Argument(
        metavar="RUN|FILE", help="A run folder or a run file.", autocompletion=completion.runs
    ),
]


def migrate(path: Place, as_json: Json = False, debug: Debug = False) -> None:
    """Write a run's folder or a run file of an earlier hansa in today's form.

    Older folders are read as they are; this makes it last. What was measured stays as it is. A
    file is kept as it was beside the new one, as FILE.old, with its comments.
    """
    with answering(as_json, debug) as answer:
        from hansa.experiment.migration import migrate as migrated

        result = migrated(path.expanduser())
        answer.data = {
            "path": str(result.path),
            "before": result.before,
            "now": result.now,
            "changes": result.changes,
            "kept": result.kept and str(result.kept),
        }
        if not result.changes:
            answer.line(f"{result.path} has today's form, {result.now}")
            return
        answer.line(f"{result.path}: from form {result.before} to {result.now}")
        for change in result.changes:
            answer.line(f"  {change}")
        if result.kept:
            answer.line(f"as it was: {result.kept}")
