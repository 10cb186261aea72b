"""Ring < static < dynamic < complete: the price of sparse graphs on non-IID CIFAR-10.

    python benchmarks/decentralized/topologies.py            # 3 seeds, both settings, ~10 minutes
    python benchmarks/decentralized/topologies.py --smoke    # digits, a few rounds

32 nodes, two textbook shards each, 16 x 16 images, MLP 768-64-10; mean node accuracy on 2,000
test images, the mean of the last three evaluations, taken after the exchange. It needs CIFAR-10
(see the README on HANSA_DATA).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import CIFAR, DIGITS, late_accuracy, markdown, publish

from hansa.experiment import run

GRAPHS: dict[str, Any] = {
    "ring": "ring",
    "static 4-regular": {"name": "regular", "degree": 4},
    "dynamic 4-regular": {"name": "regular", "degree": 4, "dynamic": True},
    "complete": "complete",
}
SETTINGS: dict[str, dict[str, Any]] = {
    "lr .05, 10 steps, batch 16, T=120": {
        "rounds": 120,
        "train": {"local_steps": 10, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}},
        "evaluate": {"every": 10},
    },
    "lr .02, 2 steps, batch 8, T=400": {
        "rounds": 400,
        "train": {"local_steps": 2, "batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.02}},
        "evaluate": {"every": 20},
    },
}
SPEC = {  # what a throw-away script of ours gave for one seed
    "lr .05, 10 steps, batch 16, T=120": [30.2, 31.9, 34.5, 45.4],
    "lr .02, 2 steps, batch 8, T=400": [32.2, 35.2, 38.0, 42.8],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="digits, one seed, a few rounds")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    smoke = arguments.smoke
    seeds = 1 if smoke else arguments.seeds
    rows, verdicts = [], []
    for title, setting in SETTINGS.items():
        found = np.zeros((len(GRAPHS), seeds))
        for g, (name, topology) in enumerate(GRAPHS.items()):
            for seed in range(seeds):
                settings = {
                    **setting,
                    "nodes": 32,
                    "seed": seed,
                    "data": DIGITS if smoke else CIFAR,
                    "model": {"name": "mlp", "hidden": [64]},
                    "topology": topology,
                }
                if smoke:
                    settings |= {"rounds": 3, "evaluate": {"every": 1}}
                with tempfile.TemporaryDirectory() as folder:
                    done = run(settings, out=Path(folder) / "run", report=False)
                    found[g, seed] = late_accuracy(done.metrics())
                print(f"{title}, {name}, seed {seed}: {found[g, seed]:.1f}", flush=True)
            each = " / ".join(f"{a:.1f}" for a in found[g])
            row = [title, name, f"{found[g].mean():.1f}", each, f"{SPEC[title][g]:.1f}"]
            rows.append(row)
        means = found.mean(1)
        ordered = bool((np.diff(means) > 0).all())
        verdicts.append(
            f"{title}: ring < static < dynamic < complete: {'yes' if ordered else 'NO'}"
        )
        closed = (means[2] - means[1]) / (means[3] - means[1])
        verdicts.append(
            f"{title}: share of the static-to-complete gap that dynamic closes: {closed:.0%}"
        )
    header = ["setting", "graph", "mean", "by seed", "spec 5.3 C"]
    text = markdown(
        "Topologies: mean node accuracy, %",
        "python benchmarks/decentralized/topologies.py",
        header,
        rows,
    )
    text += "\n" + "\n".join(f"- {line}" for line in verdicts) + "\n"
    publish("topologies", text, smoke)


if __name__ == "__main__":
    main()
