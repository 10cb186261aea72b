"""The command line of a worker process; started by the ``processes`` runtime, not by hand."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hansa.engine.job import Job
from hansa.engine.processes import Processes
from hansa.engine.worker import serve
from hansa.experiment.prepare import prepare
from hansa.experiment.runfile import RunFile
from hansa.report import RunFolder


def main() -> int:
    """Host one block of a run that a coordinator has begun."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--runtime", required=True)
    parser.add_argument("--index", type=int, required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--resume", type=Path)
    arguments = parser.parse_args()
    runtime = Processes.model_validate_json(arguments.runtime)

    def build() -> Job:
        return prepare(RunFile.parse(RunFolder.open(arguments.run).config))

    return serve(
        build,
        address=arguments.address,
        index=arguments.index,
        workers=runtime.workers,
        deadline=runtime.deadline,
        checkpoints=arguments.run / "checkpoints",
        resume=arguments.resume,
        threads=arguments.threads,
    )


if __name__ == "__main__":
    sys.exit(main())
