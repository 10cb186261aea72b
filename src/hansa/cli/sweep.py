"""``hansa sweep``: many settings, each with several seeds, in one table and on one page."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hansa.base.errors import ConfigError
from hansa.cli.answer import DIVERGED, Answer, answering
from hansa.cli.options import Debug, Json, Out, Quiet, RayAddress, home
from hansa.cli.running import heed_sigterm

if TYPE_CHECKING:
    from hansa.experiment.sweep.sweeping import Swept

File = Annotated[
    str | None,
    typer.Argument(
        metavar="FILE|ALGORITHM",
        help="A sweep's file, a file of any verb that leaves a run, or an algorithm's name.",
        show_default="D-PSGD on digits",
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUES",
        help="All combinations of these: algorithm=[dpsgd,jwins] or train.optimizer.lr=0.01,0.05; "
        "a value that is a list in a second pair of brackets. May be repeated.",
    ),
]
Zips = Annotated[
    list[str] | None,
    typer.Option("--zip", metavar="KEY=VALUES", help="Values that go together, row by row."),
]
Randoms = Annotated[
    list[str] | None,
    typer.Option(
        "--random", metavar="KEY=RANGE", help="Drawn from 0.1..0.9, 1..8, log(0.001..0.1), a list."
    ),
]
Samples = Annotated[
    int | None, typer.Option(metavar="K", min=1, help="How often random settings are drawn.")
]
Seeds = Annotated[
    str | None,
    typer.Option(
        metavar="N|LIST", help="So many seeds for each setting, from the file's on; or 3,7,9."
    ),
]
Reach = Annotated[
    list[str] | None,
    typer.Option(
        metavar="METRIC=X", help="Also say what it took to reach a figure, such as accuracy=90%."
    ),
]
Most = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Refuse to make more runs than this.", show_default="1000"
    ),
]
SweepSeed = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="Of the random settings' stream.")
]
Jobs = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Runs at a time.", show_default="as there are cores"),
]
On = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="ray|HOST:PORT",
        help="Have Ray give every run a place: here, or on a cluster's machines, all of which see "
        "the sweep's folder.",
        show_default="processes here",
    ),
]
ResumeSweep = Annotated[
    Path | None,
    typer.Option(
        help="Go on with the sweep in this folder; with more --seeds or --samples, with those too.",
        metavar="SWEEP",
        callback=home,
    ),
]


def sweep(
    file: File = None,
    sets: Sets = None,
    zips: Zips = None,
    randoms: Randoms = None,
    samples: Samples = None,
    seeds: Seeds = None,
    seed: SweepSeed = None,
    most: Most = None,
    reach: Reach = None,
    jobs: Jobs = None,
    on: On = None,
    ray_address: RayAddress = None,
    out: Out = None,
    resume: ResumeSweep = None,
    skip_refused: Annotated[
        bool, typer.Option("--skip-refused", help="Run the rest where some settings cannot work.")
    ] = False,
    retry: Annotated[
        bool, typer.Option("--retry-failed", help="With --resume: try runs that failed again.")
    ] = False,
    drop_diverged: Annotated[
        bool,
        typer.Option("--drop-diverged", help="No more seeds of a setting of which one diverged."),
    ] = False,
    pages: Annotated[bool, typer.Option("--pages", help="Write each run's own page, too.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would run; start nothing.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run every setting with every seed, several at a time, and compare what came of them.

    The exit status is 1 if a run failed and 3 if one diverged; the others are run all the same.
    Ctrl-C keeps everything: --resume SWEEP goes on. --on has whole runs placed by Ray;
    --ray-address the nodes of every run by that cluster, as --set runtime.name=ray --set
    runtime.address=HOST:PORT does.
    """
    with answering(as_json, debug) as answer:
        heed_sigterm()
        from hansa.experiment.sweep.sweeping import How, resume_sweep
        from hansa.experiment.sweep.sweeping import sweep as run

        how = How(jobs, skip_refused, retry, pages, quiet, drop_diverged, on or "")
        more: dict[str, Any] = {
            "samples": samples,
            "seeds": _seeds(seeds),
            "most": most,
            "reach": reach,
        }
        answer.go_on = "hansa sweep --resume"
        if resume is not None:
            others = (file, sets, zips, randoms, out, ray_address, dry_run)
            if any(others) or seed is not None:
                fix = "--resume SWEEP alone, with more --seeds or --samples, or --reach"
                raise ConfigError("resume", str(resume), "takes no FILE and no settings", fix)
            changes = {key: value for key, value in more.items() if value is not None}
            swept = resume_sweep(resume, changes, how)
        else:
            from hansa.experiment.sweep.planned import planned
            from hansa.experiment.sweep.sweep_file import SweepFile, with_options
            from hansa.experiment.sweep.sweeping import as_sweep

            if ray_address is not None:
                sets = ["runtime.name=ray", f"runtime.address={ray_address!r}", *(sets or ())]
            chosen = SweepFile.parse(
                with_options(
                    as_sweep(file or "dpsgd"),
                    sets or (),
                    zips or (),
                    randoms or (),
                    seed=seed,
                    **more,
                )
            )
            if dry_run:
                _show_plan(answer, planned(chosen))
                return
            swept = run(chosen, out, how=how)
        status = _result(answer, swept)
    if status:
        raise typer.Exit(status)


def _seeds(text: str | None) -> int | list[int] | None:
    if text is None:
        return None
    try:
        numbers = [int(word) for word in text.strip("[] ").split(",")]
    except ValueError:
        raise ConfigError("seeds", text, "is no number of seeds", "5, or 3,7,9") from None
    return numbers if len(numbers) > 1 or "[" in text else numbers[0]


def _show_plan(answer: Answer, plan: Any) -> None:
    from hansa.experiment.sweep.planned import plan_facts, plan_table, refusal

    answer.data = plan_facts(plan)
    answer.table(plan_table(plan))
    if plan.refused:
        answer.line(str(refusal(plan.refused, len(plan.settings) + len(plan.refused))))
    answer.line(f"{len(plan.runs)} runs. Nothing was started.")


def _result(answer: Answer, swept: Swept) -> int:
    """Print what came of a sweep; returns the exit status."""
    from hansa.experiment.sweep.results import tables
    from hansa.experiment.sweep.sweep_folder import ENDED
    from hansa.experiment.sweep.worker import SPARED

    answer.data = swept.facts()
    ended = swept.ended()
    if ended:
        for grid in tables(swept.plan, ended):
            answer.table(grid)
    for one in answer.data["refused"]:
        answer.line(f"refused  {one['setting']}: {one['error']}")
    for one in answer.data["failed"]:
        answer.line(f"failed   {one['run']}: {one['error']}")
    answer.line(f"sweep   {swept.path}")
    if (swept.path / "report.html").exists():
        answer.line(f"report  {swept.path / 'report.html'}")
    again = shlex.quote(str(swept.path))
    ends = (*ENDED, SPARED)
    unfinished = [name for name, one in swept.outcomes.items() if one["status"] not in ends]
    failed = swept.with_status("failed")
    if len(unfinished) > len(failed):
        left = len(unfinished) - len(failed)
        answer.line(f"{left} of {len(swept.outcomes)} runs are left: {answer.go_on} {again}")
        return 130
    if failed:
        answer.line(f"to try those that failed again: {answer.go_on} {again} --retry-failed")
        return 1
    return DIVERGED if swept.with_status("diverged") else 0
