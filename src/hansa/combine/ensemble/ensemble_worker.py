"""The command line of a worker of an ensemble's run; ``processes`` starts it, nobody by hand."""

from __future__ import annotations

import sys
from functools import partial

from hansa.combine.ensemble.job_file import load_job
from hansa.experiment.worker import host

if __name__ == "__main__":
    sys.exit(host(lambda run: partial(load_job, run)))
