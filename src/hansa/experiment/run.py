"""Runs an experiment: makes its folder, hosts it, and leaves tables, pictures and a summary."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hansa.base.errors import ConfigError
from hansa.base.paths import short
from hansa.engine import Collector, Job, Simulate, choose_strategy
from hansa.engine.runtimes.collect import Progress
from hansa.experiment.environment import describe_environment
from hansa.experiment.fault_counts import fault_counts
from hansa.experiment.hosting import Hosting, begun, hosted, placed, reopened
from hansa.experiment.inputs import INPUTS, check_inputs, describe_inputs
from hansa.experiment.jobs import collect, host_job
from hansa.experiment.outlook import describe
from hansa.experiment.prepare import prepare
from hansa.experiment.progress import RunProgress
from hansa.experiment.remarks import remarks
from hansa.experiment.replays import verdict
from hansa.experiment.run_model import write_signature
from hansa.experiment.runfile import RunFile, run_kind
from hansa.experiment.start import Start
from hansa.experiment.trained import changes_of
from hansa.report import RunFolder
from hansa.report.live.own_terminal import WORST
from hansa.report.warming import warm


def run(
    settings: RunFile | Mapping[str, Any] | str | Path,
    out: str | Path | None = None,
    progress: Progress | bool | None = None,
    report: bool = True,
) -> RunFolder:
    """Run an experiment from its first round to its last.

    Args:
        settings: a run file or its path, an algorithm's name, or settings as plain data.
        out: the run folder; by default a new one under ``runs/``.
        progress: is called after each round with the rounds done and the latest figures, and
            before the first with those of the initial model, unless ``evaluate.dense_start`` is
            off. True: the lines that ``hansa learn`` shows.
        report: write ``report.html`` at the end; if that fails there is a warning, no error.

    Raises:
        ConfigError: a setting that cannot work, before anything starts.
        DataError: the data are missing or damaged.
        DiskError: the disk is full or fails; what was measured is in the error's ``folder``.
        RunError: something failed on the way; all that was measured is in the folder.
        KeyboardInterrupt: once the round under way is saved, or at once if asked twice.
    """
    if progress is True:
        with RunProgress() as shown:
            return run(settings, out, shown, report)
    chosen = settings if isinstance(settings, RunFile) else RunFile.of(settings)
    with placed(chosen, out) as path:
        if isinstance(progress, RunProgress):
            progress.begin(chosen, path)
        job = prepare(chosen)
        job.strategy = choose_strategy(job)
        train = chosen.train.model_copy(update={"strategy": job.strategy})
        resolved = chosen.model_copy(update={"train": train})
        environment = describe_environment(job)
        environment[INPUTS] = describe_inputs(chosen, job.dataset, job.parts)
        with begun(path, resolved, environment, report) as hosting:
            collector = _collect(chosen, job, hosting, Start(), progress or None)
            if report and isinstance(chosen.runtime, Simulate):  # elsewhere processes are forked
                _warm_after_a_round(collector)
            describe(job, chosen, hosting.folder)
            chosen.leave(job, hosting.folder)
            write_signature(chosen, job.dataset, hosting.folder)
            hosting.folder.write_json("remarks.json", remarks(chosen, job))
            host_job(job, chosen.runtime, collector)
            _verdict(chosen, collector, hosting)
        return hosting.folder


def resume(
    path: str | Path,
    changes: Mapping[str, Any] | None = None,
    progress: Progress | bool | None = None,
    report: bool = True,
) -> RunFolder:
    """Go on with a run from its latest checkpoint (or from the start if it has none).

    Args:
        changes: settings to replace, only among ``RunFile.resumable``.
        progress, report: as for :func:`run`.

    Raises:
        CheckpointError: the folder or its checkpoint is damaged; it is named.
        ConfigError: a setting cannot change, no round is left, or the data are others now.
    """
    if progress is True:
        with RunProgress() as shown:
            return resume(path, changes, shown, report)
    kind = run_kind(RunFolder.open(path).config)
    with reopened(path, kind, changes, extensible=True) as again:
        folder, chosen = again.folder, again.settings
        if changes_of(folder.path):
            problem = "the run was made to forget, and training on would teach it all of that anew"
            raise ConfigError("resume", str(path), problem, "begin a new run without those data")
        if isinstance(progress, RunProgress):
            progress.begin(chosen, folder.path)
        start = Start.of(folder, chosen)
        job = prepare(chosen)
        check_inputs(folder, chosen, job.dataset, job.parts)
        start.check(job)
        start.enter(again)
        with hosted(folder, chosen.verb, report, chosen.sinks, start.done) as hosting:
            collector = _collect(chosen, job, hosting, start, progress or None)
            chosen.leave(job, folder)
            write_signature(chosen, job.dataset, folder)
            if not start.over:
                host_job(job, chosen.runtime, collector, start.checkpoint)
            _verdict(chosen, collector, hosting)
        return folder


def _collect(
    chosen: RunFile, job: Job, hosting: Hosting, start: Start, progress: Progress | None
) -> Collector:
    """What gathers the measurements, shows progress and says what the run has come to."""
    collector = collect(job, hosting.folder, start.checkpoint)
    hosting.facts = lambda: summary_facts(chosen, collector)
    if progress is not None:

        def told(done: int, figures: dict[str, float]) -> None:
            worst = {name + WORST: value for name, value in collector.worst.items()}
            spent = {"bytes_sent": float(collector.bytes_sent), **collector.spent}
            progress(done, {**figures, **worst, **spent})

        collector.progress = told
    return collector


def _warm_after_a_round(collector: Collector) -> None:
    """Import what the page needs beside the rounds, once the first is done and shown."""
    shown, begun = collector.progress, False

    def told(done: int, figures: dict[str, float]) -> None:
        nonlocal begun
        if shown is not None:
            shown(done, figures)
        if done and not begun:
            begun = True
            warm()

    collector.progress = told


def _verdict(chosen: RunFile, collector: Collector, hosting: Hosting) -> None:
    """Have the summary of a replay say whether it came to the same."""
    said = verdict(chosen, hosting.folder, collector.rounds_done)
    if said:
        so_far = hosting.facts
        hosting.facts = lambda: {**so_far(), **said}


def summary_facts(chosen: RunFile, collector: Collector) -> dict[str, Any]:
    """What the summary says, so far as the run has come."""
    facts = {
        "algorithm": short(type(chosen.algorithm).name),
        "nodes": chosen.nodes,
        "rounds": collector.rounds_done,
        "seconds": round(collector.seconds, 3),
        "bytes_sent": collector.bytes_sent,
        **({"bytes_by_level": collector.levels} if collector.levels else {}),
        "overhead_bytes": _overhead(collector),
        "faults": fault_counts(collector),
        **collector.spent,
        "final": _finite(collector.final),
        **chosen.facts(collector.folder),
        "saved": collector.saved,
    }
    if collector.privacy:
        facts["privacy"] = _finite(collector.privacy)
    if collector.best:
        facts["best"] = _finite(collector.best)
    if collector.reason:
        facts["ended"] = collector.reason
    if collector.diverged:
        facts["diverged"] = collector.diverged
    return facts


def _overhead(collector: Collector) -> int:
    """Bytes that sites sent beyond the messages between nodes: 0 where there are no links."""
    return collector.overhead.get("sent", 0)


def _finite(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures fit for strict JSON: what is not finite becomes None."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }
