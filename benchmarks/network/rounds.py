"""What a round over sockets costs beside a simulated one, and what a worker process does.

    python benchmarks/network/rounds.py

D-PSGD on random images of 32x32 pixels with GN-LeNet (89,834 numbers). CPU seconds a round are of
all processes together, from the third round to the last but one, in one run each. Memory is what
each worker has that nobody else has, and its proportional share, while all train. The first round
is counted from the start of the run, with its preparation.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

IMAGES = 40
"""Training images a node."""

if __name__ != "__main__":  # as a plugin, in every process of a run
    import numpy as np

    from hansa.base.component import register
    from hansa.data import Arrays, DataSource, RawSplits

    @register("noise_images")
    class NoiseImages(DataSource):
        """Images of noise."""

        def read(self) -> RawSplits:
            draw, splits = np.random.default_rng(1), []
            for n in (IMAGES * int(os.environ["NODES"]), 64):
                images = draw.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
                splits.append(Arrays(images, draw.integers(0, 10, n)))
            train, test = splits
            return RawSplits(train=train, test=test, kind="image", outputs=10, peak=255.0)


def family() -> list[Any]:
    """This process and all that it has begun."""
    import psutil

    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def cpu() -> float:
    """CPU seconds of all of them so far."""
    import psutil

    total = 0.0
    for one in family():
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def memory() -> list[tuple[int, int]]:
    """(bytes of its own, proportional share) of each worker."""
    found = []
    for one in family()[1:]:
        if one.name().startswith("worker-") or any("--index" in word for word in one.cmdline()):
            text = Path(f"/proc/{one.pid}/smaps_rollup").read_text(encoding="ascii")
            kb = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
            found.append(((kb["Private_Clean"] + kb["Private_Dirty"]) << 10, kb["Pss"] << 10))
    return found


def play(nodes: int, steps: int, rounds: int, runtime: dict[str, Any]) -> dict[str, Any]:
    """A run: CPU seconds a round, memory of workers, seconds to the first round."""
    from hansa.experiment import run

    os.environ["NODES"] = str(nodes)
    marks: dict[int, float] = {}
    seen: dict[str, Any] = {}
    began = time.perf_counter()

    def progress(done: int, figures: dict[str, float]) -> None:
        marks[done] = cpu()
        if done == 1:
            seen["first"] = time.perf_counter() - began
        if done == rounds - 1:
            seen["memory"] = memory()

    settings = {
        "plugins": [__file__],
        "seed": 1,
        "nodes": nodes,
        "rounds": rounds,
        "data": {"name": "noise_images"},
        "model": "gn_lenet",
        "topology": {"name": "regular", "degree": 5, "dynamic": True},
        "train": {"local_steps": steps, "batch_size": 8, "strategy": "looped"},
        "evaluate": {"every": rounds, "dense_start": False, "nodes": 1, "average_model": False},
        "checkpoint": {"every": 0},
        "runtime": runtime,
    }
    with tempfile.TemporaryDirectory() as folder:
        made = run(settings, Path(folder) / "run", progress=progress, report=False)
        assert made.summary is not None
        seen["overhead"] = made.summary["overhead_bytes"] / max(made.summary["bytes_sent"], 1)
    seen["round"] = (marks[rounds - 1] - marks[2]) / (rounds - 3)
    return seen


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--spawned", action="store_true", help="workers that are not forked")
    parser.add_argument("--alone", action="store_true", help="no simulation beside it")
    asked = parser.parse_args()
    if asked.spawned:
        from hansa.base import forks

        forks.possible = lambda: False
    networked = {"name": "processes", "workers": asked.workers, "deadline": 600.0}
    sizes = (asked.nodes, asked.steps, asked.rounds)
    apart = play(*sizes, networked)
    own, share = (sum(one[k] for one in apart["memory"]) / 2**20 for k in (0, 1))
    print(f"{asked.nodes} nodes, {asked.steps} steps, {asked.workers} workers:")
    print(
        f"  networked {apart['round']:.2f} CPU s a round, first round after {apart['first']:.1f} s"
    )
    print(f"  workers: {own:,.0f} MiB of their own, share {share:,.0f} MiB")
    print(f"  overhead {100 * apart['overhead']:.2f} % of the bytes of messages")
    if not asked.alone:
        here = play(*sizes, {"name": "simulate"})
        ratio = apart["round"] / here["round"]
        print(f"  simulated {here['round']:.2f} CPU s a round: networked is {ratio:.2f} times that")


if __name__ == "__main__":
    sys.exit(main())
