"""``hansa learn``: train a network of nodes."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hansa.base.errors import ConfigError, HansaError
from hansa.base.telling import say
from hansa.cli.answer import DIVERGED, UNEQUAL, Answer, Interrupted, answering, places
from hansa.cli.options import (
    All,
    Debug,
    Device,
    Json,
    NoReport,
    Out,
    Quiet,
    RayAddress,
    Replay,
    Resume,
    Seed,
    Sets,
    Target,
    read_settings,
)
from hansa.cli.running import changed, folder_for, heed_sigterm

if TYPE_CHECKING:
    from hansa.experiment import RunFile
    from hansa.experiment.progress import RunProgress
    from hansa.report import RunFolder


def learn(
    target: Target = None,
    sets: Sets = None,
    out: Out = None,
    seed: Seed = None,
    device: Device = None,
    resume: Resume = None,
    replay: Replay = None,
    ray_address: RayAddress = None,
    no_report: NoReport = False,
    as_json: Json = False,
    every: All = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a network of nodes and leave a run folder with everything that was measured.

    --replay RUN does in simulate what was done in RUN, wherever that was, with all that went wrong
    there, and says whether models and figures are equal; if they are not, the exit status is 4.

    With --resume, --set reaches what may change: rounds, runtime, checkpoint, device. --ray-address
    stands for --set runtime.name=ray --set runtime.address=HOST:PORT. The exit status is 3 if
    training diverged, whether it then went on or was stopped.
    """
    with answering(as_json, debug) as answer:
        heed_sigterm()
        from hansa.experiment.progress import RunProgress

        more = {"seed": seed, "device": device}
        if ray_address is not None:
            sets = ["runtime.name=ray", f"runtime.address={ray_address!r}", *(sets or ())]
        with RunProgress(quiet) as progress:
            try:
                if replay is not None:
                    if target is not None or resume is not None:
                        fix = "give --replay RUN alone, with --out and --set where they are wanted"
                        problem = "takes no FILE and no --resume"
                        raise ConfigError("replay", str(replay), problem, fix)
                    folder = _replay(answer, progress, replay, sets, out, not no_report, more)
                elif resume is None:
                    folder = _start(answer, progress, target, sets, out, not no_report, more)
                else:
                    if target is not None or out is not None:
                        fix = "give --resume RUN alone; --set changes what may change"
                        raise ConfigError("resume", str(resume), "takes no FILE and no --out", fix)
                    folder = _resume(answer, progress, resume, sets, not no_report, more)
            except KeyboardInterrupt:
                raise Interrupted(_kept(answer)) from None
            except HansaError as error:
                _measured(answer, error, every)
                raise
        _result(answer, folder, quiet, every)
    if answer.data.get("status") == "diverged":
        raise typer.Exit(DIVERGED)
    if answer.data.get("equal", True) is not True:
        raise typer.Exit(UNEQUAL)


def _start(
    answer: Answer,
    progress: RunProgress,
    target: str | None,
    sets: list[str] | None,
    out: Path | None,
    report: bool,
    more: dict[str, Any],
) -> RunFolder:
    chosen = read_settings(target, sets, **more)
    with folder_for(chosen, out) as path:
        return _run(answer, progress, chosen, path, report)


def _replay(
    answer: Answer,
    progress: RunProgress,
    recorded: Path,
    sets: list[str] | None,
    out: Path | None,
    report: bool,
    more: dict[str, Any],
) -> RunFolder:
    from hansa.experiment.replays import replay_of

    chosen = replay_of(recorded, tuple(sets or ()), **more)
    with folder_for(chosen, out) as path:
        return _run(answer, progress, chosen, path, report)


def _run(
    answer: Answer, progress: RunProgress, chosen: RunFile, path: Path, report: bool
) -> RunFolder:
    from hansa.experiment import run

    fresh = not (path / "config.yaml").exists()
    try:
        return run(chosen, path, progress, report)
    finally:
        if fresh and (path / "config.yaml").exists():  # the run began, so it can go on
            answer.run_dir = str(path)


def _resume(
    answer: Answer,
    progress: RunProgress,
    path: Path,
    sets: list[str] | None,
    report: bool,
    more: dict[str, Any],
) -> RunFolder:
    from hansa.experiment import resume

    changes = changed(path, sets, **more)
    answer.run_dir = str(path)
    return resume(path, changes, progress, report)


def _kept(answer: Answer) -> str:
    """What an interrupted run leaves, and from where it would go on."""
    from hansa.report import RunFolder

    if answer.run_dir is None:
        return "interrupted before anything started"
    summary = RunFolder.open(answer.run_dir).summary or {}
    done, saved = summary.get("rounds", 0), summary.get("saved", 0)
    begin = f"at round {saved + 1}, after the last checkpoint" if saved else "at the first round"
    return (
        f"interrupted after round {done}; what was measured is kept in {answer.run_dir}"
        f"\n  to go on {begin}: hansa learn --resume {shlex.quote(answer.run_dir)}"
        f"\n  its page: hansa report {shlex.quote(answer.run_dir)}"
    )


def _measured(answer: Answer, error: HansaError, every: bool) -> None:
    """Show what was measured before a run failed, even where it could not be written."""
    from hansa.report.tables import final_table

    if error.folder is None:
        return
    with contextlib.suppress(HansaError):  # a folder that cannot be read has nothing to show
        grid = final_table(error.folder, every=every)
        if grid.rows:
            answer.table(grid)


def _result(answer: Answer, folder: RunFolder, quiet: bool, every: bool) -> None:
    from hansa.experiment.equality import told
    from hansa.report.tables import divergence, final_table

    answer.data = folder.summary or {}
    for event in folder.events():
        if event["kind"] == "remark":
            say(f"warning: {event['text']}")
    if text := divergence(folder):
        say(f"warning: {text}")
    for remark in folder.read_json("remarks.json") or []:
        say(f"remark: {remark}")
    answer.table(final_table(folder, every=every))
    if "equal" in answer.data:
        answer.line(told(answer.data))
    for text in places(folder.path):
        if answer.as_json and not quiet:
            say(text)
        answer.line(text)
