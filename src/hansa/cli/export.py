"""``hansa export``: a trained model as plain files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hansa.cli.answer import answering
from hansa.cli.options import Debug, Json, RunDir, home
from hansa.cli.predict import Rule, Size, Task, Trust

Where = Annotated[
    Path,
    typer.Option(
        "--out",
        metavar="FILE",
        help="NAME.safetensors, NAME.onnx, or a new folder; see below.",
        callback=home,
    ),
]
Node = Annotated[
    int | None, typer.Option(metavar="ID", help="Whose model, where every node has its own.")
]
Average = Annotated[bool, typer.Option("--average", help="The average of all nodes' models.")]
Merged = Annotated[
    bool, typer.Option("--merged", help="Adapters added to their base: a whole model.")
]

Card = Annotated[bool, typer.Option("--card", help="Write a model card beside the file, NAME.md.")]


def export(
    run: RunDir,
    out: Where = Path("model.safetensors"),
    node: Node = None,
    average: Average = False,
    merged: Merged = False,
    card: Card = False,
    task: Task = None,
    size: Size = None,
    rule: Rule = None,
    trust: Trust = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write what a run made for those who do not have hansa: its model, and what inputs it takes.

    NAME.safetensors holds the numbers by name, NAME.onnx a graph for any ONNX runtime that takes
    values as they are stored, scaling included; NAME.json what else there is to know. A folder
    (--out DIR) holds the numbers, the facts and a model card; of a model of transformers what PEFT
    or transformers reads, of an ensemble all its members and its rule.
    """
    with answering(as_json, debug) as answer:
        from hansa.experiment.export import export as export_

        which = {"task": task, "size": size, "rule": rule, "trust": trust}
        facts = export_(run, out, node, average, merged, card, **which)
        files = sorted(str(p) for p in out.rglob("*") if p.is_file()) if out.is_dir() else [
            str(p) for p in (out, facts, out.with_suffix(".md")) if p.is_file()
        ]  # fmt: skip
        answer.data = {**json.loads(facts.read_text()), "files": files}
        answer.line(f"model  {out}")
        answer.line(f"facts  {facts}")
        if card and not out.is_dir():
            answer.line(f"card   {out.with_suffix('.md')}")
