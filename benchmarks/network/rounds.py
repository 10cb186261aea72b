"""What a round over sockets costs beside a simulated one, and what a worker process does.

    python benchmarks/network/rounds.py

D-PSGD on random images of 32x32 pixels with GN-LeNet (89,834 numbers). CPU seconds a round are of
all processes together, from the third round to the last but one, of each the least of several runs
in turns. Beside a run in several workers stand as many simulations, of as many nodes together, that
do not know of each other: they share cores and caches, and send nothing. Memory is what all workers
have that nobody else has, and their proportional share, while all train.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import measure

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
    """A run: CPU seconds a round, memory of workers, overhead in parts of the messages."""
    from hansa.experiment import run

    os.environ["NODES"] = str(nodes)
    marks: dict[int, float] = {}
    seen: dict[str, Any] = {}

    def progress(done: int, figures: dict[str, float]) -> None:
        marks[done] = cpu()
        if done == rounds - 1:
            seen["memory"] = memory()

    settings = {
        "plugins": [__file__],
        "seed": 1,
        "nodes": nodes,
        "rounds": rounds,
        "data": {"name": "noise_images"},
        "model": "gn_lenet",
        "topology": {"name": "regular", "degree": min(5, nodes - 1), "dynamic": nodes > 6},
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


def alone(nodes: int, steps: int, rounds: int, count: int) -> float:
    """CPU seconds a round of so many simulations side by side, which have nothing to do with each
    other: what is theirs beyond that of one is what cores and caches cost that several share."""
    words = [sys.executable, __file__, "--simulation", f"{nodes},{steps},{rounds}"]
    started = [
        subprocess.Popen(words, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)
        for _ in range(count)
    ]
    said = [one.communicate()[0] for one in started]
    if any(one.returncode for one in started):
        raise SystemExit(f"simulations ended with {[one.returncode for one in started]}")
    return sum(float(text.splitlines()[-1]) for text in said)


def main() -> None:
    """Measure, print, and keep the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--repeats", type=int, default=3, help="in turns; the least counts")
    parser.add_argument("--smoke", action="store_true", help="tiny, nothing is kept")
    parser.add_argument("--simulation", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.simulation:
        print(play(*map(int, asked.simulation.split(",")), {"name": "simulate"})["round"])
        return
    if asked.smoke:
        asked.nodes, asked.steps, asked.rounds, asked.workers = 8, 1, 4, [2]
        asked.repeats = 1
    sizes = (asked.nodes, asked.steps, asked.rounds)
    load = os.getloadavg()[0]
    here: list[float] = []
    apart: dict[int, list[dict[str, Any]]] = {count: [] for count in asked.workers}
    beside: dict[int, list[float]] = {count: [] for count in asked.workers}
    for _ in range(asked.repeats):
        here.append(alone(*sizes, 1))
        for count in asked.workers:
            runtime = {"name": "processes", "workers": count, "deadline": 600.0}
            apart[count].append(play(*sizes, runtime))
            beside[count].append(alone(asked.nodes // count, *sizes[1:], count))
    rows = [["`simulate`", f"{min(here):.2f}", "1", "", "", ""]]
    for count in asked.workers:
        least = min(apart[count], key=lambda one: one["round"])
        own, share = (sum(one[k] for one in least["memory"]) / 2**20 for k in (0, 1))
        memory = f"{own:,.0f} MiB of their own, share {share:,.0f}"
        ratio, lone = least["round"] / min(here), min(beside[count]) / min(here)
        overhead = f"{100 * least['overhead']:.2f} %"
        name = f"`processes`, {count} workers"
        rows.append(
            [name, f"{least['round']:.2f}", f"{ratio:.2f}", f"{lone:.2f}", memory, overhead]
        )
    header = ["runtime", "CPU seconds a round", "to `simulate`",
              "as many simulations of their share of nodes", "memory of workers",
              "overhead"]  # fmt: skip
    command = " ".join(["python benchmarks/network/rounds.py", *sys.argv[1:]])
    table = measure.markdown("", command, header, rows).partition("\n\n")[2]
    table += (
        f"\n{asked.nodes} nodes, {asked.steps} steps a round; the least of {asked.repeats} turns, "
        f"load {load:.0f} as it began and {os.getloadavg()[0]:.0f} as it ended.\n"
    )
    measure.section("networks", "A round over sockets", table, asked.smoke)


if __name__ == "__main__":
    sys.exit(main())
