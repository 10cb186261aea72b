"""The command line of a worker process; started by the ``processes`` runtime, not by hand."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from hansa.engine.runtimes.dealing import party
from hansa.engine.runtimes.processes import Processes
from hansa.engine.runtimes.worker import serve


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
        partial(party, arguments.run, arguments.index),
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
