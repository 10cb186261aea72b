"""``hansa predict``: what a trained model says of data that somebody brings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hansa.cli.answer import answering
from hansa.cli.options import Debug, Json, home

Run = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", help="A run folder, or what hansa export wrote of one.", callback=home
    ),
]
Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="What training read: a table (.csv, .tsv, .parquet; columns by name), an array "
        "(.npy, .npz), an image or a folder of images, lines of text (.txt), pairs or users.",
        callback=home,
    ),
]
OutFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Write all of them: .csv, .tsv, .parquet or .json.", callback=home
    ),
]
Node = Annotated[
    int | None,
    typer.Option(metavar="ID", help="Whose model: of a node, a client, a member, a cohort."),
]
Average = Annotated[bool, typer.Option("--average", help="The average of all nodes' models.")]
Task = Annotated[str | None, typer.Option(metavar="NAME", help="Of a merge: whose model.")]
Size = Annotated[
    float | None,
    typer.Option(metavar="X", help="Of a merge: in models.", show_default="the run's first"),
]
Rule = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Aggregator, or algorithm of a merge.", show_default="kept"),
]
Top = Annotated[int, typer.Option(min=1, metavar="K", help="Of a recommender: items a user.")]
Candidate = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT", help="Of a routed encoder: an answer to choose from; repeat."),
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Run code that the model names by import path.")
]


def predict(
    run: Run,
    data: Data,
    out: OutFile = None,
    node: Node = None,
    average: Average = False,
    task: Task = None,
    size: Size = None,
    rule: Rule = None,
    top: Top = 10,
    candidate: Candidate = None,
    trust: Trust = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Ask a trained model about data of yours: classes with probabilities, or amounts.

    Data are read as the run's own were: columns by name, scaled, missing values filled where
    training filled them. Where they have the label, it is also said how good the model is.
    """
    with answering(as_json, debug) as answer:
        from hansa.experiment.asked import predicted
        from hansa.report.predictions import check_out
        from hansa.report.which import Which

        if out is not None:
            check_out(out)
        which = Which(node, average, task, size, rule, top, tuple(candidate or ()), trust)
        said = predicted(run, data, which)
        answer.data = {"predictions": said.rows, "figures": dict(said.figures)}
        answer.table(said.grid())
        if said.figures:
            answer.line("  ".join(f"{name} {value:.4g}" for name, value in said.figures.items()))
        for remark in said.remarks:
            answer.line(f"remark: {remark}")
        if out is not None:
            answer.data["file"] = str(said.write(out))
            answer.line(f"written  {out}")
