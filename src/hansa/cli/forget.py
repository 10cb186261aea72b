"""``hansa forget``: take a class, a client or an example out of a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hansa.base.errors import ConfigError
from hansa.cli.answer import Answer, answering
from hansa.cli.options import All, Debug, Json, RunDir, Sets

if TYPE_CHECKING:
    from hansa.engine import Runtime
    from hansa.forget import Request

Classes = Annotated[
    list[str] | None,
    typer.Option("--class", metavar="CLASS", help="A class, by number or name; may be repeated."),
]
Clients = Annotated[
    list[int] | None, typer.Option("--client", metavar="ID", help="A client; may be repeated.")
]
Samples = Annotated[
    list[int] | None,
    typer.Option("--sample", metavar="INDEX", help="A training example; may be repeated."),
]
Method = Annotated[
    str | None,
    typer.Option(
        help="How: see hansa list forgetting. Default: shards for a run with several cohorts "
        "(cpfl), quickdrop for others.",
        metavar="NAME",
    ),
]
Relearn = Annotated[
    bool, typer.Option("--relearn", help="Learn it anew, from images kept by --allow-relearn.")
]
AllowRelearn = Annotated[
    bool,
    typer.Option("--allow-relearn", help="Keep the synthetic images of what is forgotten."),
]
Oracle = Annotated[
    bool, typer.Option("--oracle", help="Also retrain without it, and measure the distance.")
]
Controls = Annotated[
    bool, typer.Option("--controls", help="Also try random examples and noise as its images.")
]
Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", metavar="NAME", help="Also measure this, of hansa list metric."),
]
History = Annotated[bool, typer.Option("--history", help="Only show the requests so far.")]


def forget(
    run: RunDir,
    classes: Classes = None,
    clients: Clients = None,
    samples: Samples = None,
    method: Method = None,
    sets: Sets = None,
    relearn: Relearn = False,
    allow_relearn: AllowRelearn = False,
    oracle: Oracle = False,
    controls: Controls = False,
    metrics: Metrics = None,
    history: History = False,
    every: All = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Take classes, clients or examples out of a trained run's model, and leave a receipt.

    --set reaches the method's settings: --set recovery.rounds=4; and where the run's nodes live
    meanwhile, which is where they were trained by default: --set runtime=processes, --set
    runtime.workers=4. The exit status is 1 if it is still known too well; nothing is deleted then,
    and asking again goes on, by any method.
    """
    with answering(as_json, debug) as answer:
        if history:
            _history(answer, run)
            return
        from hansa.report import RunFolder

        RunFolder.open(run)  # before what takes long to import
        from hansa.experiment.progress import Steps
        from hansa.forget.run import forget as forget_
        from hansa.forget.run import relearn as relearn_
        from hansa.forget.trained import default_method

        request = _request(run, classes, clients, samples)
        places = tuple(text for text in sets or () if _is_place(text))
        changes = tuple(text for text in sets or () if not _is_place(text))
        runtime = _runtime(run, places) if places else None
        if relearn:
            receipt = relearn_(run, request, _recovery(changes), runtime)
        else:
            chosen = None
            if method or changes:
                chosen = _method(method or default_method(run), changes)
            with Steps() as steps:
                receipt = forget_(
                    run, request, chosen, oracle, controls, allow_relearn, steps,
                    metrics=[_metric(name) for name in metrics or ()], runtime=runtime,
                )  # fmt: skip
        answer.data = receipt
        _show(answer, request, receipt, every)
    if answer.data.get("status") == "incomplete":
        raise typer.Exit(1)


def _request(
    run: Path, classes: list[str] | None, clients: list[int] | None, samples: list[int] | None
) -> Request:
    from hansa.forget import Request
    from hansa.report import RunFolder

    names = (RunFolder.open(run).read_json("partition.json") or {}).get("classes", [])
    numbers = []
    # Classes called 1, 2, 3 have no class 0: there a number is a name, and no place.
    named = any(name.isdecimal() and name != str(k) for k, name in enumerate(names))
    for word in classes or ():
        if word in names:
            numbers.append(names.index(word))
        elif word.isdecimal() and not named:
            numbers.append(int(word))
        else:
            fix = f"one of {', '.join(names[:20])}" if names else "its number"
            raise ConfigError("class", word, "there is no such class", fix)
    return Request.of(numbers, clients or (), samples or ())


def _is_place(text: str) -> bool:
    return text.partition("=")[0].strip().partition(".")[0] == "runtime"


def _runtime(run: Path, changes: tuple[str, ...]) -> Runtime:
    """Where the nodes of a run are to live: where they do, with some settings changed."""
    from hansa.engine import Runtime
    from hansa.experiment import override
    from hansa.report import RunFolder

    settings = {"runtime": RunFolder.open(run).config.get("runtime", "simulate")}
    try:
        return Runtime.resolve(override(settings, changes)["runtime"])
    except ConfigError as error:
        raise error.under("runtime") from None


def _method(name: str, changes: tuple[str, ...]) -> Any:
    from hansa.experiment import override
    from hansa.forget import Forgetting

    try:
        return Forgetting.resolve(override({"name": name}, changes))
    except ConfigError as error:
        raise error.under("method") from None


def _metric(name: str) -> Any:
    from hansa.metrics import Metric

    try:
        return Metric.resolve(name)
    except ConfigError as error:
        raise error.under("metric") from None


def _recovery(changes: tuple[str, ...]) -> Any:
    from pydantic import ValidationError

    from hansa.base.checks import explain
    from hansa.experiment import override
    from hansa.forget import Recovery

    if not changes:
        return None
    try:
        return Recovery.model_validate(override({}, changes))
    except ValidationError as error:
        raise explain(error, Recovery) from None


def _show(answer: Answer, request: Request, receipt: dict[str, Any], every: bool) -> None:
    from hansa.forget.tables import (
        cost,
        cost_table,
        distance_table,
        figures_table,
        goal_table,
        remarks,
    )

    what = receipt.get("what", str(request))
    if receipt.get("repeated"):
        answer.line(f"{what} was forgotten already, by request {receipt['number']:03d}.")
    answer.table(figures_table(receipt, f"{receipt['method']['name']}: {what}"))
    for grid in (goal_table(receipt), distance_table(receipt)):
        if grid.rows:
            answer.table(grid)
    if every:
        answer.table(cost_table(receipt))
    else:
        answer.line(f"cost     {cost(receipt)}")
    for line in remarks(receipt):
        answer.line(line)
    if folder := receipt.get("folder"):
        answer.line(f"receipt  {folder}/receipt.json")
        answer.line(f"report   {folder}/report.html")


def _history(answer: Answer, run: Path) -> None:
    from hansa.forget import Request
    from hansa.forget.requests import Requests
    from hansa.report import RunFolder
    from hansa.report.grid import Grid
    from hansa.report.units import quantity

    requests = Requests(RunFolder.open(run).path)
    rows = []
    for receipt in requests.receipts:
        what = receipt.get("what", str(Request.parse(receipt["request"])))
        after, status = receipt["figures"]["after"], receipt.get("status", "done")
        rows.append([
            f"{receipt['number']:03d}", receipt["kind"], what,
            receipt["method"]["name"], status, quantity(after["forget"], "accuracy"),
            quantity(after["retain"], "accuracy"),
        ])  # fmt: skip
    answer.data = {
        "requests": requests.receipts,
        "forgotten": requests.served.dump(),
        "incomplete": requests.open.dump(),
    }
    columns = ["number", "kind", "what", "method", "status", "forget", "retain"]
    answer.table(Grid("Requests", columns, rows, words=4))
