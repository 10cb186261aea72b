"""``hansa forget``: take a class, a client or an example out of a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hansa.base.errors import ConfigError
from hansa.cli import completion
from hansa.cli.answer import Answer, answering
from hansa.cli.options import All, Debug, Json, NoReport, Out, Quiet, Resume, Seed, Sets, home
from hansa.cli.running import run_or_resume

if TYPE_CHECKING:
    from hansa.engine import Runtime
    from hansa.forget import Request

Target = Annotated[
    Path | None,
    typer.Argument(
        metavar="RUN|FILE",
        help="A run folder; or a file that says what is trained and what goes.",
        callback=home,
        autocompletion=completion.runs,
    ),
]
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
    run: Target = None,
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
    out: Out = None,
    seed: Seed = None,
    resume: Resume = None,
    no_report: NoReport = False,
    quiet: Quiet = False,
    every: All = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Take classes, clients or examples out of a trained run's model, and leave a receipt.

    --set reaches the method's settings: --set recovery.rounds=4; and where the run's nodes live
    meanwhile, which is where they were trained by default: --set runtime=processes, --set
    runtime.workers=4. The exit status is 1 if it is still known too well; nothing is deleted then,
    and asking again goes on, by any method.

    With a FILE the model is trained (or copied) first, and the new run's folder holds both; --set,
    --out, --seed, --resume and --no-report are as of hansa learn.
    """
    with answering(as_json, debug) as answer:
        if resume is not None or (run is not None and run.suffix in (".yaml", ".yml")):
            asked = any((classes, clients, samples, method, relearn, allow_relearn, oracle))
            if asked or controls or metrics or history:
                problem, fix = "says all of it itself", "--set classes=[3], --set method=retrain"
                raise ConfigError("file", str(run or resume), problem, fix)
            _by_file(answer, run, sets, out, seed, resume, not no_report, quiet, every)
            return
        if run is None:
            raise ConfigError("run", None, "nobody says what forgets", "a run's folder, or a file")
        for field, value in (("out", out), ("seed", seed)):
            if value is not None:
                problem, fix = "is of a file, and a run is changed where it is", "leave it out"
                raise ConfigError(field, str(value), problem, fix)
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
            with Steps(quiet) as steps:
                receipt = forget_(
                    run, request, chosen, oracle, controls, allow_relearn, steps,
                    metrics=[_metric(name) for name in metrics or ()], runtime=runtime,
                )  # fmt: skip
        answer.data = receipt
        _show(answer, request, receipt, every)
    if "incomplete" in (answer.data.get("status"), answer.data.get("goal")):
        raise typer.Exit(1)


def _by_file(
    answer: Answer,
    file: Path | None,
    sets: list[str] | None,
    out: Path | None,
    seed: int | None,
    resume: Path | None,
    report: bool,
    quiet: bool,
    every: bool,
) -> None:
    """Begin a run by a file, or go on with one, and show what came of it."""
    from hansa.forget.forget_file import ForgetFile
    from hansa.report import RunFolder
    from hansa.report.page import final

    path = run_or_resume(
        answer,
        ForgetFile,
        lambda: ForgetFile.load(file or Path(), tuple(sets or ()), seed=seed),
        out=out,
        resume=resume,
        alone=file is None and not sets and seed is None,
        report=report,
        quiet=quiet,
    )
    folder = RunFolder.open(path)
    answer.data = folder.summary or {}
    answer.table(final(folder, every=every))
    answer.places(path)


def _request(
    run: Path, classes: list[str] | None, clients: list[int] | None, samples: list[int] | None
) -> Request:
    from hansa.forget.request import Request, class_numbers
    from hansa.report import RunFolder

    names = (RunFolder.open(run).read_json("partition.json") or {}).get("classes", [])
    numbers = class_numbers(classes or (), names)
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
