"""The command line of a worker process; started by the ``processes`` runtime, not by hand."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from hansa.base.errors import ConfigError, DataError
from hansa.engine.job import Job
from hansa.engine.runtimes.processes import Processes
from hansa.engine.runtimes.saved_job import has_job, load_job
from hansa.engine.runtimes.worker import serve
from hansa.experiment.inputs import check_inputs
from hansa.experiment.prepare import prepare
from hansa.experiment.runfile import RunFile
from hansa.report import RunFolder


def main() -> int:
    """Host one block of a run that a coordinator has begun; the arguments are its."""
    parser = argparse.ArgumentParser(description="Host one block of a run.")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--runtime", required=True)
    parser.add_argument("--index", type=int, required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--resume", type=Path)
    arguments = parser.parse_args()
    runtime = Processes.model_validate_json(arguments.runtime)
    return serve(
        partial(job_of, arguments.run),
        address=arguments.address,
        index=arguments.index,
        workers=runtime.workers,
        deadline=runtime.deadline,
        checkpoints=arguments.run / "checkpoints",
        resume=arguments.resume,
        threads=arguments.threads,
    )


def job_of(run: Path) -> Job:
    """The job of a run: what was saved in its folder, or what its run file says.

    Raises:
        CheckpointError: the folder or the saved job is damaged.
        DataError: the data are not the coordinator's.
    """
    if has_job(run):
        return load_job(run)
    folder = RunFolder.open(run)
    chosen = RunFile.parse(folder.config)
    job = prepare(chosen)
    try:
        check_inputs(folder, chosen, job.dataset, job.parts)
    except ConfigError as error:
        text = f"{error.field or 'data'}: a worker was given other data than the coordinator"
        raise DataError(f"{text}; they must be the same whenever they are loaded") from error
    return job


if __name__ == "__main__":
    sys.exit(main())
