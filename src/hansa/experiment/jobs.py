"""A job of the engine, hosted in a run's folder."""

from __future__ import annotations

import contextlib
from pathlib import Path

from hansa.base import child
from hansa.base.errors import DiskError
from hansa.engine import Collector, Job, Launch, Runtime, read_manifest
from hansa.engine.runtimes.checkpoint import discard_unfinished
from hansa.engine.runtimes.dealing import remove_dealt
from hansa.engine.runtimes.interrupts import Interrupts
from hansa.engine.runtimes.own_secrets import remove_secrets
from hansa.engine.runtimes.runtime import RESUME
from hansa.report import RunFolder


def collect(job: Job, folder: RunFolder, checkpoint: Path | None = None) -> Collector:
    """What gathers a job's measurements in a folder, from a checkpoint on."""
    collector = Collector(job, folder)
    if checkpoint is not None:
        collector.restore(read_manifest(checkpoint))
    return collector


def host_job(
    job: Job,
    runtime: Runtime,
    collector: Collector,
    checkpoint: Path | None = None,
    remedy: str = RESUME,
) -> None:
    """Take a job to its end, with all that is measured in the collector's folder.

    The first interrupt ends it after the round under way, which is saved; a second one at once.

    Args:
        remedy: what to say where a worker is lost.

    Raises:
        DiskError: the disk is full or fails.
        KeyboardInterrupt: it was asked to end.
        RunError: something failed on the way.
    """
    folder = collector.folder.path
    remove_dealt(folder)  # of a run that was killed
    interrupts = Interrupts(lambda: collector.safe)

    command = child.command("hansa.experiment.worker", f"--run={folder.resolve()}")
    try:
        with interrupts.heard():
            launch = Launch(
                collector, folder / "checkpoints", checkpoint, command, interrupts, remedy
            )
            runtime.run(job, launch)
        remove_secrets(folder)  # of this runtime, or of one that the run was begun in
        collector.close()
    except BaseException:
        discard_unfinished(folder / "checkpoints")
        with contextlib.suppress(DiskError):
            collector.close()
        raise
