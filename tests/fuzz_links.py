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

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def explore(target: str, arguments: list[str]) -> None:
    """Hand one target to atheris, with its seeds as the corpus to begin with."""
    import atheris

    with atheris.instrument_imports(include=["hansa.engine.links", "hansa.engine.exchange"]):
        from tests.engine.link_targets import TARGETS, seeds

    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(seeds(target)):
            (Path(folder) / str(number)).write_bytes(data)
        atheris.Setup([sys.argv[0], folder, *arguments], TARGETS[target])
        atheris.Fuzz()


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].isdigit():
        from tests.engine.link_targets import TARGETS, mutations, seeds
        from tests.toy.mutating import table

        table(TARGETS, seeds, mutations, int(sys.argv[1]), sys.argv[2:])
    elif len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        explore(sys.argv[1], sys.argv[2:])
    else:
        print(__doc__)
