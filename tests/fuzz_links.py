"""Fuzzing of what comes from another site: handshakes, frames, messages.

    python tests/fuzz_links.py 100000
    python tests/fuzz_links.py 100000 relay header
    pip install atheris
    python tests/fuzz_links.py "control message" -max_total_time=60

The first mutates good input so many times for each target and prints a table, the second for those
with such a word in their names; the test run does the same with a few. The last lets atheris look
for new paths through one target.
"""

from __future__ import annotations

import faulthandler
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


def table(count: int, words: list[str]) -> None:
    """Mutate the seeds of each target; a target that hangs or fails ends with a traceback."""
    from engine.link_targets import TARGETS, mutations, seeds

    print(f"{'target':45} {'inputs':>8} {'CPU s':>7} {'grown MB':>9}")
    for name, one in TARGETS.items():
        if words and not any(word in name for word in words):
            continue
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
        print(f"{name:45} {count:8} {spent:7.1f} {grown:9.1f}", flush=True)


def _peak() -> int:
    """The most memory that this process has held, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def explore(target: str, arguments: list[str]) -> None:
    """Hand one target to atheris, with its seeds as the corpus to begin with."""
    import atheris

    with atheris.instrument_imports(include=["hansa.engine.links", "hansa.engine.exchange"]):
        from engine.link_targets import TARGETS, seeds

    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(seeds(target)):
            (Path(folder) / str(number)).write_bytes(data)
        atheris.Setup([sys.argv[0], folder, *arguments], TARGETS[target])
        atheris.Fuzz()


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].isdigit():
        table(int(sys.argv[1]), sys.argv[2:])
    elif len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        explore(sys.argv[1], sys.argv[2:])
    else:
        print(__doc__)
