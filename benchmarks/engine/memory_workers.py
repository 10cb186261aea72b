"""Memory of worker processes: what the data of a run take in all workers together.

    python benchmarks/engine/memory_workers.py --against 42a58be

D-PSGD with a linear model on CIFAR-10 (with $HANSA_DATA; else random images, as many), all workers
measured by their proportional set size while they train and evaluate. What data take is the
difference to the same run on a few examples of the same form, which need the interpreter and the
libraries as well. Seconds are from the start to the first round's figures, with the preparation.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
ROOT = Path(__file__).parents[2]
FULL, FEW = (50_000, 10_000), (640, 500)
"""Examples for training and for testing; the few are a batch to be evaluated."""


def memory(pid: int) -> dict[str, int]:
    """Bytes of a process: its share of what it has, and what nobody else has."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    kb = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    own = kb["Private_Clean"] + kb["Private_Dirty"]
    return {"share": kb["Pss"] << 10, "own": own << 10}


if __name__ != "__main__":  # as a plugin, in every process of a run
    import numpy as np

    from hansa.base.component import register
    from hansa.data import Arrays, DataSource, RawSplits

    @register("random_images")
    class RandomImages(DataSource):
        """Images of noise, as many as CIFAR-10 has."""

        def read(self) -> RawSplits:
            draw, splits = np.random.default_rng(1), []
            for n in FULL:
                images = draw.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
                splits.append(Arrays(images, draw.integers(0, 10, n)))
            train, test = splits
            return RawSplits(train=train, test=test, kind="image", outputs=10, peak=255.0)


class Watch(threading.Thread):
    """Looks at the workers of a run again and again; keeps the most that they had together."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.done = threading.Event()
        self.most: list[dict[str, int]] = []

    def run(self) -> None:
        import psutil

        while not self.done.wait(0.05):
            now = []
            for child in psutil.Process().children(recursive=True):
                try:
                    now.append(memory(child.pid))
                except (OSError, ValueError, IndexError):
                    continue  # it has just begun, or ended
            if sum(w["share"] for w in now) > sum(w["share"] for w in self.most):
                self.most = now


def measure(workers: int, train: int, test: int, real: bool) -> dict[str, Any]:
    """What the workers of one run had when they had most, and when its first round was done."""
    import hansa

    data: dict[str, Any] = {"name": "cifar10" if real else "random_images"}
    if (train, test) != FULL:
        data |= {"train_samples": train, "test_samples": test}
    first: list[float] = []

    def progress(done: int, figures: Any) -> None:
        first.append(time.perf_counter())

    settings = {
        "seed": 1,
        "nodes": 2 * workers,
        "rounds": 4,
        "data": data,
        "model": "logistic",
        "algorithm": "dpsgd",
        "topology": "ring",
        "plugins": [] if real else [str(Path(__file__).resolve())],
        "train": {"local_steps": 4, "strategy": "looped"},
        "evaluate": {"every": 1, "dense_start": False},
        "checkpoint": {"every": 0},
        "runtime": {"name": "processes", "workers": workers},
    }
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        watch.start()
        began = time.perf_counter()
        hansa.run(settings, Path(folder) / "run", progress, report=False)
        watch.done.set()
        watch.join()
    return {"workers": watch.most, "seconds": first[0] - began}


def apart(root: Path, **arguments: Any) -> dict[str, Any]:
    """:func:`measure` in a process of its own, with the source of a tree."""
    command = [sys.executable, __file__, "--measure", json.dumps(arguments)]
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def line(what: str, full: dict[str, Any], few: dict[str, Any]) -> tuple[float, str]:
    """(MiB that the data take in all, a row of the table)."""
    totals = {key: sum(w[key] for w in full["workers"]) / 2**20 for key in ("share", "own")}
    less = sum(w["share"] for w in few["workers"]) / 2**20
    count, data = len(full["workers"]), totals["share"] - less
    figures = (totals["share"], totals["own"], data, data / count)
    cells = " | ".join(f"{figure:,.0f}" for figure in figures)
    return data, f"| {what} | {count} | {cells} | {full['seconds']:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--against", help="a commit to measure too")
    parser.add_argument("--smoke", action="store_true", help="two workers, few images")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        print(json.dumps(measure(**json.loads(chosen.measure))))
        return
    real = "HANSA_DATA" in os.environ and not chosen.smoke
    workers = 2 if chosen.smoke else chosen.workers
    trees, rows = [("this tree", ROOT)], []
    with tempfile.TemporaryDirectory() as folder:
        git = ["git", "-C", str(ROOT), "worktree"]
        old = Path(folder) / "tree"
        if chosen.against:
            subprocess.run([*git, "add", "-q", "--detach", str(old), chosen.against], check=True)
            trees.insert(0, (chosen.against, old))
        try:
            for name, root in trees:
                sizes = [FEW, FEW] if chosen.smoke else [FULL, FEW]
                runs = [apart(root, workers=workers, train=n, test=m, real=real) for n, m in sizes]
                rows.append(line(name, *runs))
        finally:
            if chosen.against:
                subprocess.run([*git, "remove", "--force", str(old)], check=True)
    print("MiB of all workers together" + ("" if real else ", on random images"))
    print("| source | workers | in all | private | data | data a worker | seconds to round 1 |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(text for _, text in rows))
    if len(rows) == 2:
        print(f"\nThe data take {rows[1][0] / rows[0][0]:.0%} of what they took.")


if __name__ == "__main__":
    main()
