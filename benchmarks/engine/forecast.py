"""What `hansa check` foresees of a run, beside what the run then takes.

    python benchmarks/engine/forecast.py           # a few minutes
    python benchmarks/engine/forecast.py --smoke

Each run in two processes of its own: one that foresees, one that runs. Seconds are CPU seconds, so
that others at work beside do not count; those to start and to write the run folder, which a
forecast leaves out, are taken off by a run on the same data with one round of a linear model.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Goals, fresh, markdown, peak_bytes, publish

CASES: dict[str, dict[str, Any]] = {
    "D-PSGD, 64 nodes, MLP, digits": {
        "nodes": 64, "rounds": 60, "data": "digits", "model": "mlp", "algorithm": "dpsgd",
    },
    "D-PSGD, 16 nodes, GN-LeNet": {
        "nodes": 16, "rounds": 10, "data": "cifar10", "model": "gn_lenet", "algorithm": "dpsgd",
        "evaluate": {"every": 10, "dense_start": False, "nodes": 4},
    },
    "SkipTrain, 64 nodes, MLP, digits": {
        "nodes": 64, "rounds": 80, "data": "digits", "model": "mlp", "algorithm": "skiptrain",
        "train": {"local_steps": 20},
    },
    "FedAvg, 10 of 100 clients, GN-LeNet": {
        "nodes": 100, "rounds": 20, "data": "cifar10", "model": "gn_lenet",
        "algorithm": {"name": "fedavg", "sampled": 10},
        "evaluate": {"every": 10, "dense_start": False},
    },
    "FedAvg, 100 of 500 clients, logistic, digits": {
        "nodes": 500, "rounds": 40, "data": "digits", "model": "logistic",
        "algorithm": {"name": "fedavg", "sampled": 100},
        "train": {"drop_last": False},
    },
}  # fmt: skip
SMALL = {"a small one": {"nodes": 6, "rounds": 3, "data": "digits", "model": "mlp"}}


def one(settings: dict[str, Any], foresee: bool) -> dict[str, float]:
    """A forecast, or what a run takes: CPU seconds and MB."""
    import torch

    torch.set_num_threads(1)
    from hansa.experiment import RunFile, prepare
    from hansa.experiment.forecast import forecast
    from hansa.experiment.run import run

    chosen = RunFile.parse({"checkpoint": {"every": 0}, **settings})
    if foresee:
        return forecast(prepare(chosen))
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        run(chosen, Path(folder) / "run", report=False)
        return {"seconds": time.process_time() - began, "memory_mb": peak_bytes() / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true")
    smoke = parser.parse_args().smoke
    goals = Goals()
    for name, settings in (SMALL if smoke else CASES).items():
        told = fresh("one", "engine.forecast", smoke=smoke, settings=settings, foresee=True)
        idle = {**settings, "rounds": 1, "model": "logistic",
                "train": {"local_steps": 1, "drop_last": False},
                "evaluate": {"every": 1, "dense_start": False, "nodes": 1}}  # fmt: skip
        start = fresh("one", "engine.forecast", smoke=smoke, settings=idle, foresee=False)
        took = fresh("one", "engine.forecast", smoke=smoke, settings=settings, foresee=False)
        seconds = took["seconds"] - start["seconds"]
        ratio = seconds / told["seconds"]
        memory = took["memory_mb"] / told["memory_mb"]
        goals.add(
            f"{name}: CPU seconds foreseen, taken",
            f"{told['seconds']:.2f}, {seconds:.2f} ({ratio:.2f} times)",
            "within a factor of 1.5",
            1 / 1.5 <= ratio <= 1.5,
        )
        goals.add(
            f"{name}: MB foreseen, at most taken",
            f"{told['memory_mb']:.0f}, {took['memory_mb']:.0f} ({memory:.2f} times)",
            "within a factor of 1.25",
            1 / 1.25 <= memory <= 1.25,
        )
    title = "What hansa check foresees"
    command = "python benchmarks/engine/forecast.py"
    publish("forecast", markdown(title, command, Goals.HEADER, goals.rows), smoke)


if __name__ == "__main__":
    main()
