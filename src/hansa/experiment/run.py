"""Runs an experiment: makes its folder, hosts it, and leaves tables, pictures and a summary."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hansa.base import child
from hansa.base.errors import ConfigError, DiskError
from hansa.base.paths import short
from hansa.engine import Collector, Job, Launch, choose_strategy
from hansa.engine.runtimes.checkpoint import discard_unfinished
from hansa.engine.runtimes.collect import Progress
from hansa.engine.runtimes.interrupts import Interrupts
from hansa.experiment.ending import keep, page
from hansa.experiment.environment import describe_environment
from hansa.experiment.inputs import INPUTS, check_inputs, describe_inputs, plugins_of
from hansa.experiment.places import default_folder, reserved
from hansa.experiment.plan import describe
from hansa.experiment.prepare import prepare
from hansa.experiment.progress import RunProgress
from hansa.experiment.remarks import remarks
from hansa.experiment.runfile import RunFile
from hansa.experiment.start import Start
from hansa.experiment.trained import changes_of
from hansa.report import RunFolder
from hansa.report.folder import check_free, held

RESUMABLE = ("rounds", "runtime", "checkpoint", "device")
"""What may be set anew when a run is resumed: the rest would make it another run."""


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
    if out is None:
        with reserved(default_folder(chosen)) as path:
            return run(chosen, path, progress, report)
    path = Path(out).expanduser()
    check_free(path)
    if isinstance(progress, RunProgress):
        progress.begin(chosen, path)
    job = prepare(chosen)
    job.strategy = choose_strategy(job)
    config = chosen.dump()
    config["train"]["strategy"] = job.strategy
    config["plugins"] = sorted({*chosen.plugins} | plugins_of(chosen))
    environment = describe_environment(job)
    environment[INPUTS] = describe_inputs(chosen, job.dataset, job.parts)
    with held(path):
        folder = RunFolder.create(path, config, environment)
        describe(job, chosen, folder)
        folder.write_json("remarks.json", remarks(chosen, job))
        return _host(chosen, job, folder, Start(), progress or None, report)


def resume(
    path: str | Path,
    changes: Mapping[str, Any] | None = None,
    progress: Progress | bool | None = None,
    report: bool = True,
) -> RunFolder:
    """Go on with a run from its latest checkpoint (or from the start if it has none).

    Args:
        changes: settings to replace, only among :data:`RESUMABLE`.
        progress, report: as for :func:`run`.

    Raises:
        CheckpointError: the folder or its checkpoint is damaged; it is named.
        ConfigError: a setting cannot change, no round is left, or the data are others now.
    """
    if progress is True:
        with RunProgress() as shown:
            return resume(path, changes, shown, report)
    RunFolder.open(path)  # so that no lock is left in a folder that is no run
    with held(path):
        folder = RunFolder.open(path)
        config = {**folder.config, **(changes or {})}
        for key, value in config.items():
            if key not in RESUMABLE and value != folder.config.get(key):
                problem = "cannot change when a run is resumed"
                raise ConfigError(key, None, problem, f"only {', '.join(RESUMABLE)}")
        chosen = RunFile.parse(config)
        if changes_of(folder.path):
            problem = "the run was made to forget, and training on would teach it all of that anew"
            raise ConfigError("resume", str(path), problem, "begin a new run without those data")
        if isinstance(progress, RunProgress):
            progress.begin(chosen, folder.path)
        start = Start.of(folder, chosen)
        job = prepare(chosen)
        check_inputs(folder, chosen, job.dataset, job.parts)
        # All is checked: from here on the folder changes.
        if changes:
            folder.reconfigure(config)  # workers, and whoever resumes next, read it there
        start.enter(folder)
        return _host(chosen, job, folder, start, progress or None, report)


def _host(
    chosen: RunFile,
    job: Job,
    folder: RunFolder,
    start: Start,
    progress: Progress | None,
    report: bool,
) -> RunFolder:
    """Host a job in its folder, which is held, to the end, however it ends."""
    collector = Collector(job, folder)
    if start.manifest:
        collector.restore(start.manifest)
    if progress is not None:
        collector.progress = lambda done, figures: progress(
            done, {**figures, "bytes_sent": float(collector.bytes_sent)}
        )
    interrupts = Interrupts(lambda: collector.safe)
    checkpoints = folder.path / "checkpoints"
    launch = Launch(collector, checkpoints, start.checkpoint, _worker_command(folder), interrupts)
    try:
        if not start.over:
            with interrupts.heard():
                chosen.runtime.run(job, launch)
        collector.close()
        status = "diverged" if collector.diverged else "finished"
        folder.finish(_summary(chosen, folder, collector, status))
    except BaseException as error:
        discard_unfinished(checkpoints)
        with contextlib.suppress(DiskError):
            collector.close()
        keep(folder, _summary(chosen, folder, collector, "failed"), error)
        # An interrupt is not kept waiting, and a disk that failed has no room for a page.
        disk = any(isinstance(one, DiskError) for one in (error, error.__cause__))
        quick = disk or not isinstance(error, Exception)
        if report and collector.final and not quick:
            page(folder)
        raise
    if report and collector.final:
        page(folder)
    return folder


def _summary(
    chosen: RunFile, folder: RunFolder, collector: Collector, status: str
) -> dict[str, Any]:
    """The object that ``--json`` prints."""
    summary = {
        "run_dir": str(folder.path),
        "verb": "learn",
        "algorithm": short(type(chosen.algorithm).name),
        "nodes": chosen.nodes,
        "rounds": collector.rounds_done,
        "seconds": round(collector.seconds, 3),
        "bytes_sent": collector.bytes_sent,
        **collector.spent,
        "final": _finite(collector.final),
        "status": status,
        "saved": collector.saved,
    }
    if collector.best:
        summary["best"] = _finite(collector.best)
    if collector.reason:
        summary["ended"] = collector.reason
    if collector.diverged:
        summary["diverged"] = collector.diverged
    return summary


def _finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Figures fit for strict JSON: what is not finite becomes None."""
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def _worker_command(folder: RunFolder) -> Any:
    """How a worker of this run is started."""

    def command(index: int) -> Sequence[str]:
        return child.command("hansa.experiment.worker", f"--run={folder.path.resolve()}")

    return command
