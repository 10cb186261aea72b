"""``hansa infer private demo``: a network trained, compiled, served and asked on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hansa.cli.answer import Answer, answering
from hansa.cli.options import Debug, Json, NoReport, Out, Quiet, Resume, Seed, Sets
from hansa.cli.running import run_or_resume

File = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="A file of it.", show_default="a small network on digits"),
]


def demo(
    file: File = None,
    sets: Sets = None,
    out: Out = None,
    seed: Seed = None,
    resume: Resume = None,
    no_report: NoReport = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train (or take a run), compile, serve over TLS in a process of its own, ask, and compare.

    With --resume RUN an interrupted run goes on.
    """
    with answering(as_json, debug) as answer:
        from hansa.experiment.settings_file import override
        from hansa.infer.private.private_file import PrivateFile

        def chosen() -> PrivateFile:
            if file is None:
                return PrivateFile.parse(override({}, tuple(sets or ()), seed=seed))
            return PrivateFile.load(file, tuple(sets or ()), seed=seed)

        path = run_or_resume(
            answer,
            PrivateFile,
            chosen,
            out=out,
            resume=resume,
            alone=file is None and not sets and seed is None,
            report=not no_report,
            quiet=quiet,
        )
        _result(answer, path)


def _result(answer: Answer, path: Path) -> None:
    from hansa.report import RunFolder
    from hansa.report.page import final

    folder = RunFolder.open(path)
    answer.data = folder.summary or {}
    answer.table(final(folder))
    answer.places(path)
