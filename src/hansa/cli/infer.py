"""``hansa infer``: answers of many models of which some may lie."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hansa.cli.answer import Answer, answering
from hansa.cli.options import (
    All,
    Debug,
    Json,
    NoReport,
    Out,
    Quiet,
    Resume,
    RunDir,
    Seed,
    Sets,
)
from hansa.cli.private import app as private
from hansa.cli.private_compile import compile_
from hansa.cli.redteam import redteam
from hansa.cli.running import present, run_or_resume
from hansa.cli.serving import member, serve

app = typer.Typer(
    help="Answers of many models of which some may lie: robust inference.", no_args_is_help=True
)
app.command("serve")(serve)
app.command("member")(member)
app.add_typer(private, name="private")
app.command("redteam")(redteam)
app.command("compile")(compile_)

File = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="A file of it.", show_default="17 digits clients, 4 liars"),
]


@app.command("robust")
def robust(
    file: File = None,
    sets: Sets = None,
    out: Out = None,
    seed: Seed = None,
    resume: Resume = None,
    no_report: NoReport = False,
    as_json: Json = False,
    every: All = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Clients answer, some lie: which rules that make one answer of many stand up to that?

    With --resume RUN an interrupted run goes on.
    """
    with answering(as_json, debug) as answer:
        from hansa.experiment.settings_file import override
        from hansa.infer.robust.robust_file import RobustFile

        def chosen() -> RobustFile:
            if file is None:
                return RobustFile.parse(override({}, tuple(sets or ()), seed=seed))
            return RobustFile.load(file, tuple(sets or ()), seed=seed)

        path = run_or_resume(
            answer,
            RobustFile,
            chosen,
            out=out,
            resume=resume,
            alone=file is None and not sets and seed is None,
            report=not no_report,
            quiet=quiet,
        )
        _result(answer, path, every)


@app.command("predict")
def predict(
    run: RunDir,
    inputs: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="The clients' probabilities [m, clients, classes] (.npy, .npz, .safetensors); or, "
            "where the run trained the clients, what they read: a table or an array.",
        ),
    ],
    aggregator: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A rule of the run.", show_default="the one kept"),
    ] = None,
    f: Annotated[
        int | None,
        typer.Option("-f", metavar="N", help="How many may lie.", show_default="the run's"),
    ] = None,
    margin: Annotated[
        float, typer.Option(metavar="X", help="Withhold answers that are no farther ahead.")
    ] = 0.0,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run code that the run names by import path.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """One answer to each row of a file: its class, and for how many liars it is certified."""
    with answering(as_json, debug) as answer:
        present(run)
        from hansa.infer.robust.rule_answers import predict as apply
        from hansa.report.grid import Grid

        answers = apply(run, inputs, aggregator, f, margin, trust)
        answer.data = {"predictions": answers}
        heads = ["input", "class", "probability", "margin", "certified", "f*"]
        rows = [
            [
                one["input"],
                "abstains" if one["abstains"] else str(one["class"]),
                f"{one['probability']:.3f}",
                f"{one['margin']:.3f}",
                "yes" if one["certified"] else "no",
                str(one["f_star"]) if one["f_star"] >= 0 else "-",
            ]
            for one in answers
        ]
        answer.table(Grid("Answers", heads, rows, words=2))


def _result(answer: Answer, path: Path, every: bool) -> None:
    from hansa.report import RunFolder
    from hansa.report.page import final

    folder = RunFolder.open(path)
    answer.data = folder.summary or {}
    answer.table(final(folder, every=every))
    answer.line(f"kept    {answer.data['kept']}: {answer.data['why']}")
    answer.places(path)
