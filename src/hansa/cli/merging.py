"""``hansa combine merge`` and what comes after it: ``cut``, ``evaluate``, ``explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hansa.base.errors import ConfigError
from hansa.cli.answer import Answer, answering
from hansa.cli.options import All, Debug, Json, NoReport, Out, Quiet, Resume, Seed, Sets
from hansa.cli.running import changed, heed_sigterm, present, run_or_resume, there

if TYPE_CHECKING:
    from hansa.combine.merge.merge_file import MergeFile

Models = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FILE|RUN|MODEL...",
        help="A file of a merge (also one of mergekit's), a run of hansa learn, or the folders of "
        "models.",
        show_default="eight views of digits",
    ),
]
Sizes = Annotated[
    list[float] | None,
    typer.Option(
        "--size",
        metavar="X",
        help="At most so many times one model; may be repeated.",
        show_default="the file's; of models 1",
    ),
]
Budgets = Annotated[
    list[str] | None,
    typer.Option("--budget", metavar="BYTES", help="At most so much, such as 3.2GiB."),
]
Algorithm = Annotated[
    list[str] | None,
    typer.Option(
        "--algorithm",
        metavar="NAME",
        help="Of hansa list merging; may be repeated.",
        show_default="the file's; of models ties",
    ),
]
Merge = Annotated[
    Path, typer.Argument(metavar="RUN|ARTEFACT", help="A run of combine merge, or its artefact.")
]
Cut = Annotated[
    Path, typer.Argument(metavar="CUT|RUN", help="A file that was cut, or a run of combine merge.")
]
_MERGE = "a run of hansa combine merge, or its artefact"
_CUT = "a file that hansa combine cut wrote, or a run of hansa combine merge"
One = Annotated[
    str | None,
    typer.Option("--algorithm", metavar="NAME", help="Of the run.", show_default="its first"),
]


def merge(
    models: Models = None,
    base: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="What the models were fine-tuned from.")
    ] = None,
    sizes: Sizes = None,
    budgets: Budgets = None,
    algorithms: Algorithm = None,
    rebn: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Inputs to count batch normalization's statistics by."),
    ] = None,
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
    """Models that were fine-tuned from one become one of any size (FlexMerge).

    With --resume RUN an interrupted run goes on.
    """
    with answering(as_json, debug) as answer:
        from hansa.combine.merge.merge_file import MergeFile

        more = {
            "seed": seed,
            "sizes": sizes or None,
            "budgets": budgets or None,
            "algorithms": algorithms or None,
            "rebn": None if rebn is None else str(rebn),
        }
        path = run_or_resume(
            answer,
            MergeFile,
            lambda: _chosen(tuple(models or ()), base, tuple(sets or ()), more),
            out=out,
            resume=resume,
            alone=not models and base is None and not any(more.values()) and seed is None,
            report=not no_report,
            quiet=quiet,
            changes=lambda run: changed(run, sets),
        )
        _result(answer, path, every)


def _chosen(
    models: tuple[Path, ...], base: Path | None, sets: tuple[str, ...], more: dict[str, Any]
) -> MergeFile:
    from hansa.combine.merge.merge_file import MergeFile, of_models, of_run
    from hansa.combine.merge.mergekit_file import in_own_form
    from hansa.experiment.settings_file import override, read_settings_file
    from hansa.report.folder import is_run

    settings: dict[str, Any] = {}
    if len(models) == 1 and models[0].suffix in (".yaml", ".yml"):
        if base is not None:
            fix = "tasks.base in the file, or the folders of the models here"
            raise ConfigError("base", str(base), "is for models, and this is a file", fix)
        settings = in_own_form(read_settings_file(models[0]))
    elif len(models) == 1 and is_run(models[0]):
        if base is not None:
            problem, fix = "is for models, and this is a run", "leave it out"
            raise ConfigError("base", str(base), problem, fix)
        settings = of_run(models[0])
    elif models:
        for path in models:
            if is_run(path):
                fix = "one run alone; models of several: hansa export RUN --node N, and --base"
                raise ConfigError("models", str(path), "is a run's folder, not a model's", fix)
        if base is None:
            raise ConfigError("base", None, "says what they were fine-tuned from", "--base MODEL")
        settings = of_models(models, base)
        if more["sizes"] is None and more["budgets"] is None:
            more["sizes"] = [1.0]
    return MergeFile.parse(override(settings, sets, **more))


def cut(
    merged: Merge,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The new file; of a task a folder.")],
    size: Annotated[
        float | None, typer.Option(metavar="X", help="At most so many times one model.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="BYTES", help="At most so much, such as 3.2GiB.")
    ] = None,
    algorithm: One = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Write this task's model alone, as a model's folder."),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a smaller size, without the models that were merged."""
    with answering(as_json, debug) as answer:
        heed_sigterm()
        there(merged, "merged", _MERGE)
        from hansa.combine.merge.cutting import cut as write

        answer.data = write(merged, out, size, budget, algorithm, task)
        one = answer.data
        answer.line(f"{one['algorithm']} at {one['size']:.3f} models, {one['bytes']:,} bytes")
        answer.line(f"written  {out}")


def evaluate(
    merged: Cut,
    run: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Whose tasks judge.", show_default="where the cut lies"),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure what was cut on every task, or show what a run has measured."""
    with answering(as_json, debug) as answer:
        there(merged, "merged", _CUT)
        if run is not None:
            present(run)
        from hansa.combine.merge.cutting import evaluate as measure
        from hansa.report.grid import Grid

        answer.data = measured = measure(merged, run)
        heads = ["task", "accuracy, %", "of fine-tuned, %"]
        for one in measured["curve"]:
            rows = [
                [task, f"{100 * share:.2f}", f"{100 * share / tuned:.1f}" if tuned else ""]
                for task, share, tuned in (
                    (task, share, measured["fine_tuned"].get(task))
                    for task, share in one["by_task"].items()
                )
            ]
            title = f"{one['algorithm']}, {one['reached']:.3f} models"
            answer.table(Grid(title, heads, rows))


def explain(
    merged: Cut,
    algorithm: One = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Which tasks share which block, what each merge lost, and what a size is expected to lose."""
    with answering(as_json, debug) as answer:
        there(merged, "merged", _CUT)
        from hansa.combine.merge.explain import explain as tell

        answer.data = merges = tell(merged, algorithm)
        for grid in merges.pop("grids"):
            answer.table(grid)
        if merges.get("forecast"):
            answer.line(merges["forecast"]["words"])


def _result(answer: Answer, path: Path, every: bool) -> None:
    from hansa.report import RunFolder
    from hansa.report.page import final

    folder = RunFolder.open(path)
    answer.data = folder.summary or {}
    answer.table(final(folder, every=every))
    for note in answer.data.get("notes", []):
        answer.line(f"note    {note}")
    for cut_file in answer.data.get("cuts", []):
        answer.line(f"cut     {path / cut_file}")
    answer.places(path)
