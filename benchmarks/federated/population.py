"""What a round costs as the population grows: 100 clients of 100, 1,000 and 10,000.

CIFAR-10, five images a client, GN-LeNet, one local step. Clients keep nothing between rounds, so
time a round and memory should be those of the 100 that take part, whatever the population.

Then 50 of a million: two million made-up rows of ten numbers, dealt to 100 clients and to all 10^6.
Memory is the highest of the process, reading the rows among it; and the highest after round 1, to
the end of the run, where the system can say so (Linux): what the clients themselves take.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from measure import fresh, markdown, peak_bytes, publish

ROUNDS = 12
POPULATIONS = (100, 1000, 10_000)
MILLION, SAMPLED, FEATURES = 1_000_000, 50, 10


def one(clients: int, sizes: str) -> dict[str, float]:
    """CPU seconds a round, bytes that the run needs beyond its data and code, and start-up."""
    import torch

    from hansa.experiment import RunFile, prepare
    from hansa.experiment.run import run

    torch.set_num_threads(1)
    smoke = sizes == "tiny"
    data: dict[str, Any] = {"name": "cifar10", "normalize": "unit"}
    settings = {
        "nodes": clients,
        "rounds": ROUNDS,
        "data": {"name": "digits"} if smoke else data,
        "model": "logistic" if smoke else "gn_lenet",
        "algorithm": {"name": "fedavg", "sampled": min(100, clients)},
        "train": {"local_steps": 1, "batch_size": 5, "strategy": "looped", "drop_last": False},
        "evaluate": {"every": ROUNDS, "dense_start": False},
        "checkpoint": {"every": 0},
    }
    run_file = RunFile.parse(settings)
    prepare(run_file)  # the data, decoded: not what is measured
    before, began = peak_bytes(), time.perf_counter()
    at: list[float] = []
    first: list[float] = []

    def progress(done: int, figures: dict[str, float]) -> None:
        at.append(time.process_time())
        if not first:
            first.append(time.perf_counter() - began)

    with tempfile.TemporaryDirectory() as folder:
        run(run_file, Path(folder) / "run", progress=progress, report=False)
    rounds = [b - a for a, b in itertools.pairwise(at[1:-1])]
    cost = {"round": statistics.median(rounds), "first": first[0]}
    return {**cost, "bytes": float(peak_bytes() - before)}


def made(clients: int, rows: int) -> dict[str, float]:
    """As :func:`one`, with made-up rows: CPU seconds a round, the process's peak, start-up."""
    import numpy as np
    import torch

    from hansa.experiment import RunFile
    from hansa.experiment.run import run

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, FEATURES)).astype(np.float32)
    y = (x @ rng.normal(size=(FEATURES, 3)) + rng.normal(size=(rows, 3))).argmax(1)
    at: list[float] = []
    peak: list[int] = []
    anew = [False]

    def progress(done: int, figures: dict[str, float]) -> None:
        at.append(time.process_time() - began)
        if done == 1:
            peak.append(peak_bytes())
            anew[0] = forget_peak()

    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/rows.npz", x=x, y=y)
        del x, y
        settings = {
            "nodes": clients,
            "rounds": 5,
            "data": {"name": "file", "path": f"{folder}/rows.npz"},
            "model": "logistic",
            "algorithm": {"name": "fedavg", "sampled": min(SAMPLED, clients)},
            "train": {"local_steps": 1, "batch_size": 2, "drop_last": False},
            "evaluate": {"every": 5, "dense_start": False},
            "checkpoint": {"every": 0},
        }
        began = time.process_time()
        run(
            RunFile.parse(settings),
            Path(folder) / "run",
            progress=progress,
            report=False,
        )
    cost = {"round": (at[3] - at[0]) / 3, "first": at[0]}
    later = later_peak() if anew[0] else math.nan
    return {**cost, "bytes": float(max(*peak, peak_bytes())), "later": later}


def forget_peak() -> bool:
    """Have the system note the highest memory anew from here on; whether it does."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def later_peak() -> float:
    """The highest memory since, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * float(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def million(smoke: bool) -> str:
    """The second table."""
    many, rows = (400, 1000) if smoke else (MILLION, 2 * MILLION)
    cases = {n: fresh("made", "population", smoke=smoke, clients=n, rows=rows) for n in (100, many)}
    lines = [
        "| clients | CPU a round | peak memory | peak after round 1 | CPU to the end of round 1 |",
        "|---|---|---|---|---|",
    ]
    for n, each in cases.items():
        lines.append(
            f"| {n:,} | {1000 * each['round']:.0f} ms | {each['bytes'] / 1e6:.0f} MB | "
            f"{each['later'] / 1e6:.0f} MB | {each['first']:.1f} s |"
        )
    for name, words in (("bytes", "at most"), ("later", "after round 1")):
        more = (cases[many][name] - cases[100][name]) / 1e6
        said = "not known here" if math.isnan(more) else "yes" if more < 150 else "NO"
        claim = f"{many:,} clients take under 150 MB more than 100, {words}"
        lines += ["", f"- {claim}: {said} ({more:.0f} MB)"]
    return "\n".join(lines)


def main() -> None:
    """Print the tables and save them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    smoke = parser.parse_args().smoke
    populations = (20, 40) if smoke else POPULATIONS
    sizes = "tiny" if smoke else "full"
    found = {
        n: fresh("one", "population", smoke=smoke, clients=n, sizes=sizes) for n in populations
    }
    base = found[populations[0]]["round"]
    rows = [
        [
            f"{n:,}",
            f"{1000 * each['round']:.0f} ms",
            f"{each['round'] / base:.2f}",
            f"{each['bytes'] / 2**20:.0f} MiB",
            f"{each['first']:.1f} s",
        ]
        for n, each in found.items()
    ]
    header = ["clients", "CPU a round", "ratio", "memory beyond the data", "to the end of round 1"]
    title = "100 clients a round of a growing population"
    text = markdown(title, "python benchmarks/federated/population.py", header, rows)
    text += f"\n{SAMPLED} clients a round of a million, made-up rows:\n\n{million(smoke)}\n"
    publish("population", text, smoke)


if __name__ == "__main__":
    main()
