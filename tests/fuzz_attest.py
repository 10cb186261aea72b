"""Fuzzing of evidence: reports, quotes, certificates, lists and policies that somebody has changed.

    python tests/fuzz_attest.py 100000
    HANSA_DATA=... python tests/fuzz_attest.py 100000

Mutates good input so many times for each target and prints a table; with $HANSA_DATA real evidence
is among it. The test run does the same with a few.
"""

from __future__ import annotations

import faulthandler
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def table(count: int) -> None:
    """Mutate the seeds of each target; a target that hangs or fails ends with a traceback."""
    from tests.attest.evidence_targets import TARGETS, mutations, seeds

    print(f"{'target':20} {'inputs':>8} {'CPU s':>7} {'grown MB':>9}")
    for name, one in TARGETS.items():
        for data in seeds(name):
            one(data)
        began, held = time.process_time(), _peak()
        for number, data in enumerate(mutations(name, count)):
            if number % 1000 == 0:
                faulthandler.dump_traceback_later(300, exit=True)
            try:
                one(data)
            except BaseException:
                print(f"{name}: {data!r}", file=sys.stderr)
                raise
        faulthandler.cancel_dump_traceback_later()
        spent, grown = time.process_time() - began, (_peak() - held) / 1e6
        print(f"{name:20} {count:8} {spent:7.1f} {grown:9.1f}", flush=True)


def _peak() -> int:
    """The most memory that this process has held, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].isdigit():
        table(int(sys.argv[1]))
    else:
        print(__doc__)
