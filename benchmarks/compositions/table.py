"""Compositions: systems combined by run files and commands, each beside its parts alone.

    python benchmarks/compositions/table.py                # all, 3 seeds
    python benchmarks/compositions/table.py --only NAME    # one; the page keeps the others
    python benchmarks/compositions/table.py --draw         # page and picture from what is kept
    python benchmarks/compositions/table.py --smoke        # the shortest runs, nothing is kept

Every figure is what a command printed with ``--json``, run as a user runs it.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from composing import RESULTS, Bench, Composition, Figures, draw, keep, page, section

HERE = Path(__file__).parent


def compositions() -> list[Composition]:
    """One of each file ``composed_*.py``."""
    names = sorted(path.stem for path in HERE.glob("composed_*.py"))
    return [importlib.import_module(name).COMPOSITION for name in names]


def measured(composition: Composition, seeds: list[int], smoke: bool, here: bool) -> list[Figures]:
    """By seed, what its lines came to."""
    each = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            each.append(composition.measure(Bench(Path(folder), smoke, here), seed))
        print(f"{composition.name}, seed {seed}: {each[-1]}", file=sys.stderr, flush=True)
    return each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one seed, the shortest runs")
    parser.add_argument("--only", action="append", help="the name of one; may be repeated")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--here", action="store_true", help="commands in this process: faster")
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    given = parser.parse_args()
    every = compositions()
    chosen = [one for one in every if not given.only or one.name in given.only]
    if not chosen:
        parser.error(f"--only takes one of {', '.join(one.name for one in every)}")
    seeds = [1] if given.smoke else list(range(1, 1 + given.seeds))
    for one in () if given.draw else chosen:
        each = measured(one, seeds, given.smoke, given.here)
        print(section(one, each, f"seeds {seeds}"))
        if not given.smoke:
            keep(one, each, seeds)
    if not given.smoke:
        (RESULTS / "compositions.md").write_text(page(every))
        draw(every, RESULTS / "compositions.png")


if __name__ == "__main__":
    main()
