"""What a wake-up of adpsgd costs: a tiny model among many nodes.

    python benchmarks/engine/own_pace.py                      # this tree
    python benchmarks/engine/own_pace.py --against COMMIT     # and another, in the same minutes
    python benchmarks/engine/own_pace.py --smoke              # tiny sizes, to see that it runs

A step is one example through a model of 650 numbers, so that nearly all is the engine's own work.
Printed is the CPU time of the cheapest round of each run, by the wake-up, and beside it that of a
plain loop in torch that does the same and nothing else: one step, one average with a neighbour.
Nodes have a budget of all steps, or draw how many they can afford. Both trees run this copy of the
file.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]


CLOCKS: dict[str, dict[str, Any]] = {
    "modelled": {"name": "modelled", "spread": 0.5},
    "devices": {"name": "devices"},
}


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


def measure(nodes: int, rounds: int, budget: str, clock: str) -> float:
    """CPU seconds of the cheapest round, by its wake-ups, whatever else the machine does."""
    from hansa.experiment import run

    marks: list[float] = []

    def progress(done: int, figures: dict[str, float]) -> None:
        marks.append(time.process_time())

    chosen = settings(nodes, rounds) | {"clock": CLOCKS[clock]}
    chosen["train"]["budget"] = budget
    with tempfile.TemporaryDirectory() as folder:
        run(chosen, Path(folder) / "run", progress, report=False)
    return min(b - a for a, b in itertools.pairwise(marks)) / nodes


def plain(nodes: int, rounds: int) -> float:
    """The same as :func:`measure` of a loop in torch: a heap, a step, an average."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    random, loss = np.random.default_rng(0), nn.CrossEntropyLoss()
    models = [nn.Linear(64, 10) for _ in range(nodes)]
    x, y = torch.rand(nodes, 64), torch.randint(10, (nodes,))
    pace = random.lognormal(0, 0.5, nodes)
    heap = [(pace[k], k) for k in range(nodes)]
    heapq.heapify(heap)
    costs = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(nodes):
            due, k = heapq.heappop(heap)
            example, j = (int(i) for i in random.integers(nodes, size=2))
            models[k].zero_grad()
            loss(models[k](x[example : example + 1]), y[example : example + 1]).backward()
            with torch.no_grad():
                for a, b in zip(models[k].parameters(), models[j].parameters(), strict=True):
                    assert a.grad is not None
                    a.sub_(a.grad, alpha=0.05).add_(b).div_(2)
                    b.copy_(a)
            heapq.heappush(heap, (due + pace[k], k))
        costs.append(time.process_time() - began)
    return min(costs) / nodes


def in_tree(source: Path, words: list[str]) -> float:
    """Measured with the code below a folder, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description="What a wake-up of adpsgd costs")
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--against", help="a commit to compare this tree with")
    parser.add_argument("--sizes", type=int, nargs="+", help="numbers of nodes")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    chosen = parser.parse_args()
    if chosen.words:
        what, nodes, rounds, *how = chosen.words
        seconds = plain(int(nodes), int(rounds)) if what == "plain" else None
        print(json.dumps(seconds or measure(int(nodes), int(rounds), *how)))
        return
    sizes, rounds = ([16, 32], 2) if chosen.smoke else ([1000], 4)
    sizes = chosen.sizes or sizes
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        if chosen.against:
            subprocess.run([*git, "add", "-q", "--detach", tree, chosen.against], check=True)
        try:
            table(sizes, rounds, tree / "src" if chosen.against else None, chosen.against)
        finally:
            if chosen.against:
                subprocess.run([*git, "remove", "--force", tree], check=True)


def table(sizes: list[int], rounds: int, theirs: Path | None, name: str | None) -> None:
    """Print a line a size, clock and budget."""
    more = f" at {name} | times |" if theirs else ""
    print("| nodes | clock | budget | plain loop, ms | CPU ms a wake-up |" + more)
    print("|---:|---|---|---:|---:|" + ("---:|---:|" if theirs else ""), flush=True)
    for nodes, clock, budget in itertools.product(sizes, CLOCKS, ["full", "uniform"]):
        words = [str(nodes), str(rounds)]
        least = in_tree(ROOT / "src", ["plain", *words])
        own = in_tree(ROOT / "src", ["measure", *words, budget, clock])
        line = f"| {nodes} | {clock} | {budget} | {least * 1e3:.2f} | {own * 1e3:.2f} |"
        if theirs:
            other = in_tree(theirs, ["measure", *words, budget, clock])
            line += f" {other * 1e3:.2f} | {other / own:.1f} |"
        print(line, flush=True)


if __name__ == "__main__":
    main()
