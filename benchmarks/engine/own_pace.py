"""What a wake-up of adpsgd costs besides its training: a tiny model among many nodes.

    python benchmarks/engine/own_pace.py                      # this tree
    python benchmarks/engine/own_pace.py --against COMMIT     # and another, in the same minutes
    python benchmarks/engine/own_pace.py --smoke              # tiny sizes, to see that it runs

A step is one example through a model of 650 numbers, so that nearly all is the engine's own work.
Printed is the CPU time of the cheapest round of each run, by the wake-up.
``--budget uniform`` has each node draw how many steps it can afford. Both trees run this copy of
the file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def settings(nodes: int, rounds: int) -> dict[str, Any]:
    """A run of one step of one example a wake-up."""
    return {
        "algorithm": "adpsgd",
        "nodes": nodes,
        "rounds": rounds,
        "data": "digits",
        "model": {"name": "mlp", "hidden": []},
        "topology": {"name": "regular", "degree": 6},
        "clock": {"name": "modelled", "spread": 0.5},
        "train": {"local_steps": 1, "batch_size": 1, "strategy": "looped"},
        "evaluate": {"every": 10_000, "nodes": 1, "dense_start": False, "average_model": False},
        "checkpoint": {"every": 0},
    }


def measure(nodes: int, rounds: int, budget: str) -> float:
    """CPU seconds of the cheapest round, by its wake-ups, whatever else the machine does."""
    from hansa.experiment import run

    marks: list[float] = []

    def progress(done: int, figures: dict[str, float]) -> None:
        marks.append(time.process_time())

    chosen = settings(nodes, rounds)
    chosen["train"]["budget"] = budget
    with tempfile.TemporaryDirectory() as folder:
        run(chosen, Path(folder) / "run", progress, report=False)
    return min(b - a for a, b in itertools.pairwise(marks)) / nodes


def in_tree(source: Path, sizes: list[int], rounds: int, budget: str) -> dict[int, float]:
    """Measured with the code below a folder, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    found = {}
    for nodes in sizes:
        command = [sys.executable, __file__, "measure", str(nodes), str(rounds), budget]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found[nodes] = float(json.loads(done.stdout.strip().splitlines()[-1]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What a wake-up of adpsgd costs")
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--against", help="a commit to compare this tree with")
    parser.add_argument("--budget", default="full", help="of the steps: full or uniform")
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of nodes")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    chosen = parser.parse_args()
    if chosen.words:
        _, nodes, rounds, budget = chosen.words
        print(json.dumps(measure(int(nodes), int(rounds), budget)))
        return
    sizes, rounds = ([16, 32], 2) if chosen.smoke else ([250, 500, 1000], 3)
    sizes, budget = chosen.sizes or sizes, chosen.budget
    ours = in_tree(ROOT / "src", sizes, rounds, budget)
    theirs: dict[int, float] = {}
    if chosen.against:
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / "tree"
            git = ["git", "-C", str(ROOT), "worktree"]
            subprocess.run([*git, "add", "-q", "--detach", tree, chosen.against], check=True)
            try:
                theirs = in_tree(tree / "src", sizes, rounds, budget)
            finally:
                subprocess.run([*git, "remove", "--force", tree], check=True)
    print("| nodes | CPU ms a wake-up |" + (f" at {chosen.against} | times |" if theirs else ""))
    print("|---:|---:|" + ("---:|---:|" if theirs else ""))
    for nodes, own in ours.items():
        line = f"| {nodes} | {own * 1e3:.3f} |"
        if theirs:
            line += f" {theirs[nodes] * 1e3:.3f} | {theirs[nodes] / own:.1f} |"
        print(line)


if __name__ == "__main__":
    main()
