"""``hansa infer redteam``: attacks on the weights that private inference serves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hansa.cli.answer import Answer, answering
from hansa.cli.options import Debug, Json, NoReport, Out, Quiet, Resume, Seed, Sets
from hansa.cli.running import run_or_resume

if TYPE_CHECKING:
    from hansa.infer.private.redteam.redteam_file import RedTeamFile

Source = Annotated[
    Path | None,
    typer.Argument(
        metavar="FILE|PROGRAM",
        help="A file of attacks, or a compiled program whose layers are attacked.",
        show_default="all attacks on made layers",
    ),
]
Attack = Annotated[
    list[str] | None,
    typer.Option("--attack", metavar="NAME", help="Of hansa list extraction; may be repeated."),
]
Mode = Annotated[
    list[str] | None,
    typer.Option("--mode", metavar="NAME", help="unprotected, shuffle, budget or shares."),
]


def redteam(
    source: Source = None,
    attacks: Attack = None,
    modes: Mode = None,
    sets: Sets = None,
    out: Out = None,
    seed: Seed = None,
    resume: Resume = None,
    no_report: NoReport = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """What does a client learn of a server's weights? Every attack, in every mode.

    With --resume RUN an interrupted run goes on.
    """
    with answering(as_json, debug) as answer:
        from hansa.infer.private.redteam.redteam_file import RedTeamFile

        more = {"seed": seed, "attacks": attacks or None, "modes": modes or None}
        path = run_or_resume(
            answer,
            RedTeamFile,
            lambda: _chosen(source, tuple(sets or ()), more),
            out=out,
            resume=resume,
            alone=source is None and not sets and not any(more.values()) and seed is None,
            report=not no_report,
            quiet=quiet,
        )
        _result(answer, path)


def _chosen(source: Path | None, sets: tuple[str, ...], more: dict[str, Any]) -> RedTeamFile:
    from hansa.experiment.settings_file import override
    from hansa.infer.private.redteam.redteam_file import RedTeamFile

    if source is not None and source.suffix.lower() in (".yaml", ".yml"):
        return RedTeamFile.load(source, sets, **more)
    program = {} if source is None else {"program": str(source.expanduser().absolute())}
    return RedTeamFile.parse(override(program, sets, **more))


def _result(answer: Answer, path: Path) -> None:
    from hansa.report import RunFolder
    from hansa.report.page import final

    folder = RunFolder.open(path)
    answer.data = folder.summary or {}
    answer.table(final(folder))
    answer.places(path)
