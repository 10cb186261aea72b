"""``hansa route``: many adapters on one model; each query gets the mixture that answers it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hansa.cli.answer import Answer, answering
from hansa.cli.options import All, Debug, Json, NoReport, Out, Quiet, Resume, Seed, Sets
from hansa.cli.route_index import index, train
from hansa.cli.route_models import models
from hansa.cli.route_pool import compress
from hansa.cli.route_serving import ask, serve
from hansa.cli.running import run_or_resume

app = typer.Typer(
    help="Many adapters on one model: each query gets the mixture that answers it (LORAUTER).",
    no_args_is_help=True,
)
app.command("train")(train)
app.command("index")(index)
app.command("compress")(compress)
app.command("models")(models)
app.command("serve")(serve)
app.command("ask")(ask)

Tasks = Annotated[
    Path, typer.Argument(metavar="TASKS", help="A folder with a folder of JSON lines a task.")
]

File = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="A file of it.", show_default="made tasks, a made pool"),
]


@app.command("run")
def run(
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
    """Try a pool of adapters: which methods answer best, when what queries need is there or not?

    With --resume RUN an interrupted run goes on.
    """
    with answering(as_json, debug) as answer:
        from hansa.experiment.settings_file import override
        from hansa.route.route_file import RouteFile

        def chosen() -> RouteFile:
            if file is None:
                return RouteFile.parse(override({}, tuple(sets or ()), seed=seed))
            return RouteFile.load(file, tuple(sets or ()), seed=seed)

        path = run_or_resume(
            answer,
            RouteFile,
            chosen,
            out=out,
            resume=resume,
            alone=file is None and not sets and seed is None,
            report=not no_report,
            quiet=quiet,
        )
        _result(answer, path, every)


@app.command("tasks")
def tasks(folder: Tasks, as_json: Json = False, debug: Debug = False) -> None:
    """What a folder of tasks holds, checked: examples, answers, leaks into test sets."""
    with answering(as_json, debug) as answer:
        from hansa.report.grid import Grid
        from hansa.route.sources.task_folder import read_tasks, read_training

        read = read_tasks(folder)
        training = read_training(folder, read)
        answer.data = {
            "tasks": [
                {
                    "task": task.name,
                    "domain": task.domain,
                    "metric": task.metric,
                    "adapter": task.own,
                    "train": len(training.get(task.name, ())),
                    "validation": len(task.validation),
                    "test": len(task.test),
                    "answers": len({e.answer for e in task.validation}),
                }
                for task in read
            ]
        }
        heads = list(answer.data["tasks"][0])
        rows = [[str(value) for value in row.values()] for row in answer.data["tasks"]]
        answer.table(Grid(f"Tasks in {folder}", heads, rows, words=4))


def _result(answer: Answer, path: Path, every: bool) -> None:
    from hansa.report import RunFolder
    from hansa.report.page import final

    folder = RunFolder.open(path)
    answer.data = folder.summary or {}
    answer.table(final(folder, every=every))
    answer.places(path)
