"""Options that several verbs share, and how a run's settings are found from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hansa.cli import completion

if TYPE_CHECKING:
    from hansa.experiment import RunFile


def home(path: Path | None) -> Path | None:
    """A shell leaves the ~ of ``--out=~/run`` as it is."""
    return None if path is None else path.expanduser()


Target = Annotated[
    str | None,
    typer.Argument(
        metavar="FILE|ALGORITHM",
        help="A run file, an example's name, or an algorithm's for its defaults on digits.",
        show_default="D-PSGD on digits",
        autocompletion=completion.targets,
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="Change a setting; may be repeated.",
        autocompletion=completion.settings,
    ),
]
Seed = Annotated[int | None, typer.Option(help="Same as --set seed=N.", metavar="N")]
Device = Annotated[
    str | None, typer.Option(help="Same as --set device=NAME: cpu, cuda ...", metavar="NAME")
]
Rounds = Annotated[int | None, typer.Option(help="Same as --set rounds=N.", metavar="N")]
Nodes = Annotated[int | None, typer.Option(help="Same as --set nodes=N.", metavar="N")]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="MODULE", help="Import a module or file of yours first."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
RayAddress = Annotated[
    str | None,
    typer.Option(
        help="Run on the Ray cluster there, of which this machine is part.", metavar="HOST:PORT"
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="The run folder to make.",
        metavar="DIR",
        show_default="new, under runs/",
        callback=home,
    ),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        help="Go on with the run in this folder.",
        metavar="RUN",
        callback=home,
        autocompletion=completion.runs,
    ),
]
Replay = Annotated[
    Path | None,
    typer.Option(
        help="Do the run in this folder again in the order in which it happened there.",
        metavar="RUN",
        callback=home,
        autocompletion=completion.runs,
    ),
]
NoReport = Annotated[bool, typer.Option("--no-report", help="Write no report.html at the end.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]
All = Annotated[
    bool, typer.Option("--all", help="Print every figure, not only those that matter most.")
]
RunDir = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", help="A run folder.", callback=home, autocompletion=completion.runs
    ),
]


def read_settings(target: str | None, sets: Sequence[str] | None, **more: Any) -> RunFile:
    """The run file that FILE|ALGORITHM and ``--set`` stand for."""
    from hansa.experiment import RunFile

    return RunFile.of(target, tuple(sets or ()), **more)
