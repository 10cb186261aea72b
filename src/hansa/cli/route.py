"""``hansa route``: many adapters on one model; each query gets the mixture that answers it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hansa.cli.answer import answering
from hansa.cli.options import Debug, Json
from hansa.cli.route_pool import compress

app = typer.Typer(
    help="Many adapters on one model: each query gets the mixture that answers it (LORAUTER).",
    no_args_is_help=True,
)
app.command("compress")(compress)

Tasks = Annotated[
    Path, typer.Argument(metavar="TASKS", help="A folder with a folder of JSON lines a task.")
]


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
