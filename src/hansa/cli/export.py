"""``hansa export``: a trained model as plain files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hansa.cli.answer import answering
from hansa.cli.options import Debug, Json, RunDir

Where = Annotated[
    Path,
    typer.Option(
        "--out", metavar="FILE", help="The file to write, NAME.safetensors; or a folder, see below."
    ),
]
Node = Annotated[
    int | None, typer.Option(metavar="ID", help="Whose model, where every node has its own.")
]
Average = Annotated[bool, typer.Option("--average", help="The average of all nodes' models.")]
Merged = Annotated[
    bool, typer.Option("--merged", help="Adapters added to their base: a whole model.")
]


def export(
    run: RunDir,
    out: Where = Path("model.safetensors"),
    node: Node = None,
    average: Average = False,
    merged: Merged = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write the model of a run: its numbers by name, and beside them what inputs it takes.

    Any program that reads safetensors can use it; hansa is not needed. A model of transformers
    may go to a folder (--out DIR) instead: adapters as PEFT reads them, a whole model as
    transformers does.
    """
    with answering(as_json, debug) as answer:
        from hansa.experiment.export import export as export_
        from hansa.experiment.export import open_run

        facts = export_(open_run(run), out, node, average, merged)
        answer.data = {**json.loads(facts.read_text()), "files": [str(out), str(facts)]}
        answer.line(f"model  {out}")
        answer.line(f"facts  {facts}")
