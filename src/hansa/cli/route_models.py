"""``hansa route models``: the models of a merge, each example to the one of its task."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.base.errors import ConfigError
from hansa.cli.answer import answering
from hansa.cli.options import Debug, Json, home
from hansa.cli.running import present, there

if TYPE_CHECKING:
    from torch import Tensor

_METHODS = {
    "routed": "routed by the example",
    "told": "told its task",
    "single": "the one best model",
    "average": "mean of all models",
    "base": "what they were fine-tuned from",
}


class Sees(StrEnum):
    """What a router makes vectors of."""

    auto = "auto"
    inputs = "inputs"
    features = "features"


def models(
    cut: Annotated[
        Path, typer.Argument(metavar="CUT", help="A file of hansa combine cut.", callback=home)
    ],
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="The run of combine merge that it is of.",
            callback=home,
            show_default="where the cut lies",
        ),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Answer these examples (.npy), as the network reads them, instead of measuring.",
            callback=home,
        ),
    ] = None,
    sees: Annotated[
        Sees, typer.Option(help="What tells tasks apart: an example's numbers, or the base's view.")
    ] = Sees.auto,
    places: Annotated[int, typer.Option(metavar="N", help="Places of a task.")] = 10,
    k: Annotated[int, typer.Option("-k", metavar="N", help="Places that an example keeps.")] = 1,
    temperature: Annotated[
        float, typer.Option(metavar="X", help="Of the softmax over them.")
    ] = 0.05,
    seed: Annotated[int, typer.Option(metavar="N", help="Names the random streams.")] = 1,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Route examples over the models of a merge: each goes to the model of the nearest task."""
    with answering(as_json, debug) as answer:
        there(cut, "cut", "a file that hansa combine cut wrote")
        if run is not None:
            present(run)
        from hansa.combine.merge.cutting import task_models
        from hansa.report.grid import Grid
        from hansa.route.network_routing import answered_by, fit_router, sent, try_routing

        opened = task_models(cut, run)
        suite, networks = opened.suite, list(opened.models.values())
        assert suite.inputs is not None
        own = [suite.inputs(task, "own") for task in suite.tasks]
        router = fit_router(
            opened.base, [x for x, _ in own], sees=sees.value, places=places, k=k,
            temperature=temperature, seed=seed,
        )  # fmt: skip
        answer.data = {
            "bytes": opened.bytes, "tasks": list(suite.tasks), "sees": router.sees,
            "chosen_by": dict(router.found), "places": len(router.router.centroids),
        }  # fmt: skip
        if rows is not None:
            x = _rows(rows, own[0][0])
            try:
                went = router.route(opened.base, x)
                named = answered_by(went, networks, opened.base, x).argmax(1).tolist()
            except IndexError:
                problem, fix = "holds ids that no model knows", "ids as the run's own data have"
                raise ConfigError("rows", str(rows), problem, fix) from None
            chosen = [suite.tasks[t] if t >= 0 else None for t in sent(went).tolist()]
            answer.data["answers"] = [
                {"task": task, "class": label} for task, label in zip(chosen, named, strict=True)
            ]
            heads = ["example", "task", "class"]
            cells = [
                [str(n), one["task"] or "none", str(one["class"])]
                for n, one in enumerate(answer.data["answers"])
            ]
            answer.table(Grid(f"{len(cells)} answers", heads, cells, words=2))
            return
        trial = try_routing(
            router, networks, opened.base,
            [suite.inputs(task, "test") for task in suite.tasks], own,
        )  # fmt: skip
        answer.data["methods"] = facts = trial.facts()
        right = trial.sent.diagonal()
        answer.data |= {"sent": trial.sent.tolist(), "sent_to_own": float(right.mean())}
        heads = ["", "mean, %", "worst task, %", "models asked"]
        cells = [
            [_METHODS[name], _percent(one["accuracy"]), _percent(one["worst"]),
             f"{one['passes']:.2f}"] for name, one in facts.items()
        ]  # fmt: skip
        answer.table(Grid("Accuracy on the tasks' test examples", heads, cells))
        heads = ["task", "routed, %", "told, %", "base, %", "sent to its own, %"]
        cells = [
            [task, *(_percent(facts[m]["by_task"][t]) for m in ("routed", "told", "base")),
             _percent(right[t])] for t, task in enumerate(suite.tasks)
        ]  # fmt: skip
        answer.table(Grid("By task", heads, cells))
        for note in suite.notes:
            answer.line(f"note    {note}")
        answer.line(f"seen    {router.sees} of examples, {len(router.router.centroids)} places")
        answer.line(f"models  {opened.bytes:,} bytes")


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _rows(file: Path, like: Tensor) -> Tensor:
    """Examples of a file, in the form and type of others.

    Raises:
        ConfigError: it holds no such.
    """
    import numpy as np

    from hansa.base.lazy import torch

    try:
        read = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError("rows", str(file), f"cannot be read ({error})", "a file .npy") from None
    if not isinstance(read, np.ndarray) or read.dtype.kind not in "fiub":
        raise ConfigError("rows", str(file), "holds no array of numbers", "one array, .npy")
    shape, whole = tuple(like.shape[1:]), not like.is_floating_point()
    if read.ndim < 2 or read.shape[1:] != shape or not len(read):
        problem = f"holds {list(read.shape)}"
        raise ConfigError("rows", str(file), problem, f"examples [n, {str(list(shape))[1:]}")
    if not np.isfinite(read).all():
        raise ConfigError("rows", str(file), "holds numbers that are not finite", "finite numbers")
    if whole and (read % 1).any():
        raise ConfigError("rows", str(file), "holds fractions", "ids, which are whole numbers")
    return torch.from_numpy(read.astype(np.int64 if whole else np.float32)).to(like)
