"""What ``hansa learn`` and verbs that train as it does have in common: begin, replay, resume."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hansa.base.errors import ConfigError, HansaError
from hansa.base.telling import say
from hansa.cli.answer import DIVERGED, UNEQUAL, Answer, Interrupted, answering, places
from hansa.cli.running import changed, folder_for, heed_sigterm, present

if TYPE_CHECKING:
    from hansa.experiment import RunFile
    from hansa.experiment.progress import RunProgress
    from hansa.report import RunFolder


def train(
    command: str,
    chosen: Callable[..., RunFile],
    show: Callable[[Answer, RunFolder, bool], None],
    *,
    file: object,
    sets: list[str] | None,
    out: Path | None,
    seed: int | None,
    rounds: int | None,
    nodes: int | None,
    device: str | None,
    resume: Path | None,
    replay: Path | None,
    ray_address: str | None,
    report: bool,
    as_json: bool,
    every: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Train a network of nodes in a run folder, and answer with what came of it.

    Args:
        command: that does so, such as ``hansa learn``.
        chosen: the settings of a new run, of the overrides and of keywords that are set.
        show: prints what was measured.
        file: what names the settings, which has to be nothing with ``--resume`` or ``--replay``.
    """
    with answering(as_json, debug) as answer:
        answer.go_on = f"{command} --resume"
        heed_sigterm()
        from hansa.experiment.progress import RunProgress

        more = {"seed": seed, "rounds": rounds, "nodes": nodes, "device": device}
        if ray_address is not None:
            sets = ["runtime.name=ray", f"runtime.address={ray_address!r}", *(sets or ())]
        with RunProgress(quiet) as progress:
            try:
                if replay is not None:
                    if file is not None or resume is not None:
                        fix = "give --replay RUN alone, with --out and --set where they are wanted"
                        problem = "takes no FILE and no --resume"
                        raise ConfigError("replay", str(replay), problem, fix)
                    present(replay)
                    from hansa.experiment.replays import replay_of

                    settings = replay_of(replay, tuple(sets or ()), **more)
                    folder = _begin(answer, progress, settings, out, report)
                elif resume is None:
                    settings = chosen(tuple(sets or ()), **more)
                    folder = _begin(answer, progress, settings, out, report)
                else:
                    if file is not None or out is not None:
                        fix = "give --resume RUN alone; --set changes what may change"
                        raise ConfigError("resume", str(resume), "takes no FILE and no --out", fix)
                    folder = _resume(answer, progress, resume, sets, report, more)
            except KeyboardInterrupt:
                raise Interrupted(_kept(answer)) from None
            except HansaError as error:
                _measured(answer, error, every)
                raise
        _result(answer, folder, show, quiet, every)
    if answer.data.get("status") == "diverged":
        raise typer.Exit(DIVERGED)
    if answer.data.get("equal", True) is not True:
        raise typer.Exit(UNEQUAL)


def _begin(
    answer: Answer, progress: RunProgress, chosen: RunFile, out: Path | None, report: bool
) -> RunFolder:
    with folder_for(chosen, out) as path:
        from hansa.experiment import run  # once nothing speaks against it

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
    present(path)
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
        f"\n  to go on {begin}: {answer.go_on} {shlex.quote(answer.run_dir)}"
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


def _result(
    answer: Answer,
    folder: RunFolder,
    show: Callable[[Answer, RunFolder, bool], None],
    quiet: bool,
    every: bool,
) -> None:
    from hansa.experiment.equality import told
    from hansa.report.tables import divergence

    answer.data = folder.summary or {}
    for event in folder.events():
        if event["kind"] == "remark":
            say(f"warning: {event['text']}")
    if text := divergence(folder):
        say(f"warning: {text}")
    for remark in folder.read_json("remarks.json") or []:
        say(f"remark: {remark}")
    show(answer, folder, every)
    if "equal" in answer.data:
        answer.line(told(answer.data))
    for text in places(folder.path):
        if answer.as_json and not quiet:
            say(text)
        answer.line(text)
