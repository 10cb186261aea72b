"""``hansa data``: the data sets, one of them loaded, and its split over the nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hansa.cli.answer import answering
from hansa.cli.options import Debug, Json, Seed, Sets

if TYPE_CHECKING:
    import numpy as np

    from hansa.data import Dataset, DataSource

Name = Annotated[str | None, typer.Argument(help="A data set; without one they are listed.")]
Nodes = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Also deal the training examples to N nodes."),
]
_SHOWN = 16


def data(
    name: Name = None,
    sets: Sets = None,
    nodes: Nodes = None,
    seed: Seed = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the data sets, or load one and show what is in it.

    --set takes the data part of a run file: --set partition.name=shards or --set
    data.partition.name=shards.
    """
    with answering(as_json, debug) as answer:
        from hansa.base.component import catalogue
        from hansa.base.streams import Streams
        from hansa.cli.options import read_settings
        from hansa.report.grid import Grid

        if name is None:
            answer.data = {"data": {k: part.summary() for k, part in catalogue("data").items()}}
            rows = [[key, summary] for key, summary in answer.data["data"].items()]
            answer.table(Grid("Data sets", ["name", ""], rows, words=2))
            return
        own = [f"data.{text.removeprefix('data.')}" for text in sets or ()]
        source = read_settings(None, [f"data.name={name}", *own]).data
        streams = Streams(1 if seed is None else seed)
        source.glance()
        dataset = source.load(streams)
        answer.data = _facts(source, dataset)
        facts = [[key, _text(value)] for key, value in answer.data.items() if key != "remarks"]
        answer.table(Grid(name, ["", ""], facts, words=2))
        for remark in answer.data["remarks"]:
            answer.line(f"remark: {remark}")
        if nodes is not None:
            parts = source.divide(dataset, nodes, streams)
            answer.data["split"] = split = _split(dataset, parts)
            title = f"Split over {nodes} nodes (class:examples, the largest first)"
            columns, rows = _split_table(split)
            answer.table(Grid(title, columns, rows))
            if nodes > _SHOWN:
                answer.line(f"(and {nodes - _SHOWN} more nodes; --json gives all)")


def _facts(source: DataSource, dataset: Dataset) -> dict[str, Any]:
    """What is known of a loaded data set."""
    spec = dataset.spec
    return {
        "name": dataset.name,
        "train": len(dataset.train),
        "validation": len(dataset.validation or ()),
        "test": len(dataset.test),
        "public": len(dataset.public or ()),
        "kind": spec.kind,
        "shape": list(spec.shape),
        "task": spec.task,
        "outputs": spec.outputs,
        "classes": list(dataset.class_names),
        "owners": len(dataset.group_names),
        "files": [str(path) for path in source.files()],
        "remarks": list(dataset.notes),
    }


def _split(dataset: Dataset, parts: Sequence[np.ndarray]) -> dict[str, Any]:
    """Examples of each node, and of each of its classes where there are classes."""
    from hansa.data import label_histogram

    split: dict[str, Any] = {"examples": [len(part) for part in parts]}
    if classes := dataset.spec.classes:
        histogram = label_histogram(dataset.train.targets.numpy(), parts, classes)
        split["classes_present"] = (histogram > 0).sum(1).tolist()
        split["histogram"] = histogram.tolist()
    return split


def _split_table(split: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    columns = ["node", "examples"]
    rows = [[str(i), str(size)] for i, size in enumerate(split["examples"][:_SHOWN])]
    if "histogram" in split:
        columns += ["classes", "by class"]
        for row, present, counts in zip(
            rows, split["classes_present"], split["histogram"], strict=False
        ):
            most = sorted(range(len(counts)), key=lambda c: -counts[c])[:8]
            row += [str(present), "  ".join(f"{c}:{counts[c]}" for c in most if counts[c])]
    return columns, rows


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value[:12])) + (" ..." if len(value) > 12 else "") or "-"
    return f"{value:,}" if isinstance(value, int) else str(value)
