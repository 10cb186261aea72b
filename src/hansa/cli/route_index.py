"""``hansa route train`` and ``index``: adapters for one's own tasks, and what a router needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hansa.base.errors import ConfigError
from hansa.cli.answer import answering
from hansa.cli.options import Debug, Json, Quiet

TaskFolder = Annotated[
    Path,
    typer.Option("--tasks", metavar="DIR", help="A folder with a folder of JSON lines a task."),
]
BaseFolder = Annotated[
    Path | None, typer.Option("--base", metavar="DIR", help="The base, a transformers folder.")
]


def index(
    pool: Annotated[Path, typer.Argument(metavar="POOL", help="A folder of PEFT folders.")],
    tasks: TaskFolder,
    out: Annotated[
        Path, typer.Option("--out", metavar="INDEX", help="The index to make or bring up to date.")
    ],
    base: BaseFolder = None,
    encoder: Annotated[
        str, typer.Option(metavar="NAME|DIR", help="Of hansa list encoder, or an encoder's folder.")
    ] = "tfidf",
    sees: Annotated[
        str,
        typer.Option(metavar="WHAT", help="What it is given: text, or text_and_candidates."),
    ] = "text",
    association: Annotated[
        str, typer.Option(metavar="NAME", help="Of hansa list association.")
    ] = "exhaustive",
    k: Annotated[
        int | None,
        typer.Option("-k", metavar="N", help="Tasks a query keeps.", show_default="fitted"),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="X", help="Of the softmax.", show_default="fitted")
    ] = None,
    alpha: Annotated[
        float, typer.Option(metavar="X", help="Share of a task's queries that may be turned away.")
    ] = 0.05,
    screen: Annotated[
        bool, typer.Option("--screen", help="Look at adapters before they are let in.")
    ] = False,
    refit: Annotated[
        bool, typer.Option("--refit", help="Fit K and the temperature anew to what has changed.")
    ] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Names the random streams.")] = 1,
    max_tokens: Annotated[int, typer.Option(metavar="N", help="Of an answer.")] = 32,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Find for each task the adapter that answers its validation examples best.

    Where INDEX has been made before, only what is new or was changed is measured.
    """
    with answering(as_json, debug) as answer:
        from hansa.experiment.progress import Steps
        from hansa.report.grid import Grid
        from hansa.route.association import Association
        from hansa.route.index_folder import Indexing, encoder_of, make_index
        from hansa.route.screening import Screening

        if sees not in ("text", "text_and_candidates"):
            raise ConfigError("sees", sees, "is no such thing", "text or text_and_candidates")
        if not 0 <= alpha < 1:
            raise ConfigError("alpha", alpha, "is no share", "0 or more, below 1")
        chosen = Indexing(
            encoder=encoder_of(encoder), sees=sees, association=Association.resolve(association),
            k=k, temperature=temperature, alpha=alpha, screen=Screening() if screen else None,
            refit=refit, seed=seed, max_tokens=max_tokens,
        )  # fmt: skip
        with Steps(quiet) as steps:
            made = make_index(pool, tasks, base, out, chosen, steps)
        kept = made.index
        rows: list[dict[str, Any]] = []
        cells: list[list[str]] = []
        for t, task in enumerate(kept.tasks):
            taken = int(kept.choices[t])
            name = kept.names[taken] if taken >= 0 else None
            score = float(kept.means[t, taken]) if taken >= 0 else None
            count = int(kept.counts[t, taken]) if taken >= 0 else 0
            rows.append({"task": task.name, "adapter": name, "score": score, "examples": count})
            shown = "" if score is None else f"{score:.3f}"
            cells.append([task.name, name or "none", shown, str(count)])
        answer.data = {
            "index": str(out), "tasks": rows, "adapters": len(kept.adapters),
            "answers": made.evaluated, "embedded": made.embedded, "k": kept.k,
            "temperature": kept.temperature,
            "refused": {name: list(why) for name, why in made.refused.items()},
        }  # fmt: skip
        heads = ["task", "adapter", "score", "examples"]
        answer.table(Grid(f"{len(kept.adapters)} adapters", heads, cells, words=2))
        for name, why in made.refused.items():
            answer.line(f"not let in: {name}: {'; '.join(why)}")
        answer.line(f"took    {made.evaluated} answers now; K = {kept.k}, "
                    f"temperature {kept.temperature:g}")  # fmt: skip
        answer.line(f"index   {out}")


def train(
    tasks: Annotated[
        Path, typer.Argument(metavar="TASKS", help="A folder with a folder of JSON lines a task.")
    ],
    base: Annotated[
        Path, typer.Option("--base", metavar="DIR", help="The base, a transformers folder.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="POOL", help="The folder that adapters are put in.")
    ],
    rank: Annotated[int, typer.Option(metavar="N", help="Of the factors.")] = 8,
    alpha: Annotated[float, typer.Option(metavar="X", help="Scale: alpha / rank.")] = 16.0,
    lr: Annotated[float, typer.Option(metavar="X", help="Learning rate at its highest.")] = 1e-3,
    epochs: Annotated[float, typer.Option(metavar="X", help="Passes over the examples.")] = 3.0,
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Steps in all, in place of epochs.")
    ] = None,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Examples a step.")] = 32,
    rslora: Annotated[bool, typer.Option("--rslora", help="Scale by alpha / sqrt(rank).")] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Of all that is drawn.")] = 1,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a LoRA adapter on the train.jsonl of each task; those that are there stay."""
    with answering(as_json, debug) as answer:
        from hansa.experiment.progress import Steps
        from hansa.route.adapter_training import AdapterTraining
        from hansa.route.own_adapters import train_adapters

        more: dict[str, Any] = {"epochs": epochs, "steps": steps, "batch_size": batch_size}
        try:
            settings = AdapterTraining(
                rank=rank, alpha=alpha, lr=lr, rslora=rslora, seed=seed, **more
            )
        except ValueError as error:
            raise ConfigError("settings", None, str(error)) from None
        with Steps(quiet) as progress:
            trained = train_adapters(tasks, base, out, settings, progress)
        answer.data = {"pool": str(out), "trained": trained}
        answer.line(f"trained {', '.join(trained) or 'nothing: all adapters are there'}")
        answer.line(f"pool    {out}")
