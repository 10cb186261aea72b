"""``hansa combine``: one model out of those that clients trained alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from hansa.base.errors import ConfigError, HansaError
from hansa.base.telling import say
from hansa.cli.answer import Answer, answering
from hansa.cli.merging import cut, evaluate, explain, merge
from hansa.cli.options import (
    All,
    Debug,
    Device,
    Json,
    NoReport,
    Out,
    Quiet,
    Resume,
    RunDir,
    Seed,
    Sets,
)
from hansa.cli.running import changed, folder_for, going_on, heed_sigterm, present

app = typer.Typer(
    help="Combine models that clients trained alone: one-shot ensembles, and merges of any size.",
    no_args_is_help=True,
)

File = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="An ensemble's file.", show_default="ten digits clients"),
]


@app.command("ensemble")
def ensemble(
    file: File = None,
    sets: Sets = None,
    out: Out = None,
    seed: Seed = None,
    device: Device = None,
    resume: Resume = None,
    no_report: NoReport = False,
    as_json: Json = False,
    every: All = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Clients train alone and upload once; then they learn how to combine their models (FENS).

    With --resume, --set reaches what may change: runtime, device.
    """
    with answering(as_json, debug) as answer:
        heed_sigterm()
        more = {"seed": seed, "device": device}
        if resume is not None:
            if file is not None or out is not None:
                fix = "give --resume RUN alone; --set changes what may change"
                raise ConfigError("resume", str(resume), "takes no FILE and no --out", fix)
            _result(answer, _resume(answer, resume, sets, more, quiet, not no_report), every)
            return
        from hansa.combine.ensemble.ensemble_file import EnsembleFile
        from hansa.experiment.settings_file import override

        changes = tuple(sets or ())
        if file is None:
            chosen = EnsembleFile.parse(override({}, changes, **more))
        else:
            chosen = EnsembleFile.load(file, changes, **more)
        from hansa.combine.ensemble.run import ensemble as run
        from hansa.experiment.progress import Steps

        with folder_for(chosen, out) as path, _going_on(answer, path):
            with Steps(quiet) as steps:
                folder = run(chosen, path, steps, not no_report)
            _result(answer, folder.path, every)


def _resume(
    answer: Answer,
    path: Path,
    sets: list[str] | None,
    more: dict[str, Any],
    quiet: bool,
    report: bool,
) -> Path:
    present(path)
    from hansa.combine.ensemble.run import resume
    from hansa.experiment.progress import Steps

    with _going_on(answer, path), Steps(quiet) as steps:
        return resume(path, changed(path, sets, **more), steps, report).path


@contextlib.contextmanager
def _going_on(answer: Answer, path: Path) -> Iterator[None]:
    """As all runs; and what was measured of one that failed is shown."""
    try:
        with going_on(answer, path, "hansa combine ensemble --resume"):
            yield
    except HansaError as error:
        from hansa.report.grid import Grid

        rules = (error.summary or {}).get("rules") or {}
        if rules:  # measured, though not written down
            shown = [[name, f"{100 * accuracy:.2f} %"] for name, accuracy in rules.items()]
            answer.table(Grid("Measured", ["rule", "accuracy"], shown))
        raise


@app.command("remove")
def remove(
    run: RunDir,
    client: Annotated[int, typer.Option(help="The client that goes.", metavar="N")],
    out: Out = None,
    no_report: NoReport = False,
    as_json: Json = False,
    every: All = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Drop one client's model, exactly: the rule is fitted anew without it."""
    with answering(as_json, debug) as answer:
        present(run)
        from hansa.combine.ensemble.run import remove as removed
        from hansa.experiment.places import reserved
        from hansa.experiment.progress import Steps

        heed_sigterm()

        base = Path("runs") / f"{run.resolve().name}-without-{client}"
        place = reserved(base) if out is None else contextlib.nullcontext(out)
        with place as path, _going_on(answer, path):
            with Steps(quiet) as steps:
                folder = removed(run, client, path, steps, not no_report)
            _result(answer, folder.path, every)


@app.command("predict")
def predict(
    run: RunDir,
    inputs: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="What training read: a table (.csv, .tsv, .parquet; columns by name), an array "
            "(.npy, .npz), an image or a folder of images.",
        ),
    ],
    trust: Annotated[
        bool, typer.Option("--trust", help="Run code that the ensemble names by import path.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Apply an ensemble to a file or a folder."""
    with answering(as_json, debug) as answer:
        present(run)
        from hansa.combine.ensemble.predict import predict as apply
        from hansa.report.grid import Grid

        predictions = apply(run, inputs, trust)
        answer.data = {"predictions": predictions}
        rows = [[p["input"], str(p["class"]), f"{p['probability']:.3f}"] for p in predictions]
        answer.table(Grid("Predictions", ["input", "class", "probability"], rows, words=2))


app.command("merge")(merge)
app.command("cut")(cut)
app.command("evaluate")(evaluate)
app.command("explain")(explain)


def _result(answer: Answer, path: Path, every: bool) -> None:
    from hansa.report import RunFolder
    from hansa.report.page import final

    folder = RunFolder.open(path)
    answer.data = folder.summary or {}
    for remark in folder.read_json("remarks.json") or []:
        say(f"remark: {remark}")
    answer.table(final(folder, every=every))
    answer.line(f"kept    {answer.data['chosen']}: {answer.data['why']}")
    answer.places(path)
