"""What it costs to let nodes live apart: one run in every runtime, at equal work.

    python benchmarks/network/overhead.py            # 16 × GN-LeNet in 4 workers, some minutes
    python benchmarks/network/overhead.py --smoke    # tiny, to see that it runs

Seconds are of a round, the median over all but the first: of the wall, and of all processes'
cores, Ray's own among them. Memory is what the processes that host nodes take (PSS: what they share
counts once), as the last round ends. Overhead is what links carry beside messages between nodes.
Sites (``node``) are started apart and have no coordinator, keys, and sealed links.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
import measure_sites
from measure import fresh, markdown, section

from hansa.experiment import run

HEADER = [
    "runtime",
    "seconds a round",
    "CPU seconds a round",
    "memory of a process with nodes",
    "of all processes",
    "messages, bytes",
    "overhead, bytes",
]
THEIRS = [
    "DecentralizePy, from issue 16; its source is not in our specs",
    "3.5",
    "",
    "0.5–1.4 GB",
    "16 of them",
    "",
    "",
]
"""No measurement of ours: what issue 16 says of the original."""


def data(path: Path, count: int, side: int) -> None:
    """Random images: speed does not depend on what they show."""
    random = np.random.default_rng(0)
    shape = (count, side, side, 3)
    np.savez(
        path,
        images=random.integers(0, 256, shape, dtype=np.uint8),
        label=random.integers(0, 10, count),
    )


def settings(smoke: bool, path: str, runtime: dict[str, Any]) -> dict[str, Any]:
    """The run: D-PSGD as DecentralizePy's tutorial has it."""
    model: Any = {"name": "mlp", "hidden": [16]} if smoke else "gn_lenet"
    return {
        "seed": 1,
        "nodes": 16,
        "rounds": 3 if smoke else 10,
        "data": {"name": "file", "path": path},
        "model": model,
        "topology": {"name": "regular", "degree": 4},
        "train": {
            "local_steps": 2 if smoke else 20,
            "batch_size": 8,
            "strategy": "looped",
            "optimizer": {"name": "sgd", "lr": 0.01},
        },
        "evaluate": {"every": 10**6, "dense_start": False, "average_model": False},
        "checkpoint": {"every": 0},
        "clock": "wall",
        "runtime": runtime,
    }


def tree() -> list[psutil.Process]:
    """This process and all that it has started, at any remove."""
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


class Watch:
    """Sees the end of every round: when it was, and what all processes have used by then."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.at: list[float] = []
        self.cpu: list[float] = []
        self.memory: list[int] = []

    def __call__(self, done: int, figures: dict[str, float]) -> None:
        self.at.append(time.perf_counter())
        cpu, memory = 0.0, []
        for process in tree():
            try:
                times = process.cpu_times()
                memory.append(process.memory_full_info().pss)
            except psutil.Error:  # it has ended meanwhile
                continue
            cpu += times.user + times.system
        self.cpu.append(cpu)
        self.memory = sorted(memory, reverse=True)


def measured(tiny: bool, path: str, runtime: dict[str, Any]) -> dict[str, Any]:
    """What a run in a runtime costs."""
    if runtime["name"] == "node":
        with tempfile.TemporaryDirectory() as folder:
            chosen = settings(tiny, path, {"name": "simulate"})
            return measure_sites.measured(Path(folder), chosen, runtime["workers"])
    watch = Watch(runtime.get("workers", 1))
    with tempfile.TemporaryDirectory() as folder:
        done = run(settings(tiny, path, runtime), Path(folder) / "run", watch, report=False)
        summary = done.summary or {}
    return {
        "seconds": statistics.median(np.diff(watch.at).tolist()),
        "cpu": statistics.median(np.diff(watch.cpu).tolist()),
        "each": statistics.median(watch.memory[: watch.workers]),
        "all": sum(watch.memory),
        "bytes": summary["bytes_sent"],
        "overhead": summary.get("overhead_bytes", 0),
    }


def main() -> None:
    """Make the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny, nothing is kept")
    smoke = parser.parse_args().smoke
    workers = 2 if smoke else 4
    runtimes: dict[str, dict[str, Any]] = {
        "`simulate`": {"name": "simulate"},
        f"`processes`, {workers} workers": {"name": "processes", "workers": workers},
        f"`ray`, {workers} actors": {"name": "ray", "workers": workers, "cpus": 0.5},
        f"`node`, {workers} sites": {"name": "node", "workers": workers},
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npz"
        data(path, 16 * (16 if smoke else 512), 8 if smoke else 32)
        for name, runtime in runtimes.items():
            got = fresh(
                "measured", "overhead", smoke=smoke, tiny=smoke, path=str(path), runtime=runtime
            )
            rows.append(
                [
                    name,
                    f"{got['seconds']:.2f}",
                    f"{got['cpu']:.2f}",
                    f"{got['each'] / 1e6:.0f} MB",
                    f"{got['all'] / 1e6:.0f} MB",
                    f"{got['bytes']:,}",
                    f"{got['overhead']:,}",
                ]
            )
            print(*rows[-1], sep=" | ", flush=True)
    table = markdown("", "python benchmarks/network/overhead.py", HEADER, [*rows, THEIRS])
    section("networks", "The price of living apart", table.partition("\n\n")[2], smoke)


if __name__ == "__main__":
    main()
