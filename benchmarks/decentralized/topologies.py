"""Ring < static < dynamic < complete: the price of sparse graphs on non-IID CIFAR-10.

    python benchmarks/decentralized/topologies.py            # both settings, ~20 minutes
    python benchmarks/decentralized/topologies.py --smoke    # digits, a few rounds

32 nodes, two textbook shards each, 16 x 16 images, MLP 768-64-10; mean node accuracy on 2,000
test images, the mean of the last three evaluations, taken after the exchange. It needs CIFAR-10
(see the README on HANSA_DATA).

On a ring the order of the classes along it decides more than anything else, so "ring" stands there
three times over five deals of the shards: nodes in the order in which they were dealt; sorted, so
that neighbours have the same classes; and interleaved, so that few nodes in a row have them all.
The nodes keep their data, only who is whose neighbour differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import CIFAR, DIGITS, Notes, late_accuracy, markdown, publish

from hansa.base.streams import Streams
from hansa.data import DataSource
from hansa.experiment import run

NODES, DEALS = 32, 5
RINGS = ("ring, as dealt", "ring, sorted", "ring, interleaved")
GRAPHS: dict[str, Any] = {
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
SPEC = {  # what a throw-away script of ours gave for one deal
    "lr .05, 10 steps, batch 16, T=120": {
        "ring, as dealt": "30.2",
        "static 4-regular": "31.9",
        "dynamic 4-regular": "34.5",
        "complete": "45.4",
    },
    "lr .02, 2 steps, batch 8, T=400": {
        "ring, as dealt": "32.2",
        "static 4-regular": "35.2",
        "dynamic 4-regular": "38.0",
        "complete": "42.8",
    },
}


def ring(order: str, data: dict[str, Any], seed: int, path: Path) -> Any:
    """The topology of a ring on which the nodes of a deal stand in some order."""
    if order == "ring, as dealt":
        return "ring"
    source, streams = DataSource.resolve(data), Streams(seed)
    dataset = source.load(streams)
    targets = dataset.train.targets.numpy()
    held = [sorted(set(targets[part])) for part in source.divide(dataset, NODES, streams)]
    nodes = sorted(range(NODES), key=lambda node: held[node])
    if order == "ring, interleaved":
        nodes = interleaved(nodes, held)
    pairs = zip(nodes, nodes[1:] + nodes[:1], strict=True)
    path.write_text("".join(f"{a} {b}\n" for a, b in pairs))
    return {"name": "file", "path": str(path)}


def interleaved(nodes: list[int], held: list[list[int]]) -> list[int]:
    """The nodes in an order in which each has the classes that were longest not there."""
    last, order, left = dict.fromkeys(range(10), -NODES), [], list(nodes)
    while left:
        chosen = min(
            left,
            key=lambda node: (max(last[c] for c in held[node]), sum(last[c] for c in held[node])),
        )
        left.remove(chosen)
        last |= dict.fromkeys(held[chosen], len(order))
        order.append(chosen)
    return order


def accuracy(name: str, setting: dict[str, Any], seed: int, smoke: bool) -> float:
    """Late accuracy, %, of one graph on one deal."""
    data = DIGITS if smoke else CIFAR
    with tempfile.TemporaryDirectory() as folder:
        if name in RINGS:
            topology = ring(name, data, seed, Path(folder) / "ring.edges")
        else:
            topology = GRAPHS[name]
        settings = {
            **setting,
            "nodes": NODES,
            "seed": seed,
            "data": data,
            "model": {"name": "mlp", "hidden": [64]},
            "topology": topology,
        }
        if smoke:
            settings |= {"rounds": 3, "evaluate": {"every": 1}}
        return late_accuracy(run(settings, out=Path(folder) / "run", report=False).metrics())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="digits, one seed, a few rounds")
    parser.add_argument("--seeds", type=int, default=3, help="of the graphs that are no rings")
    parser.add_argument("--notes", help="a file of results, to go on after a stop")
    arguments = parser.parse_args()
    smoke, notes = arguments.smoke, Notes(arguments.notes)
    rows, verdicts = [], []
    for title, setting in SETTINGS.items():
        means: dict[str, float] = {}
        for name in (*RINGS, *GRAPHS):
            deals = 1 if smoke else DEALS if name in RINGS else arguments.seeds
            found = np.array(
                [
                    notes.get(
                        f"{title}, {name}, {seed}", partial(accuracy, name, setting, seed, smoke)
                    )
                    for seed in range(deals)
                ]
            )
            print(f"{title}, {name}: {found.round(1)}", flush=True)
            means[name] = found.mean()
            spread = "" if deals < 2 else f"{found.std(ddof=1):.1f}"
            each = " / ".join(f"{a:.1f}" for a in found)
            rows.append(
                [title, name, f"{means[name]:.1f}", spread, each, SPEC[title].get(name, "")]
            )
        dealt, sorted_, mixed = (means[name] for name in RINGS)
        static, dynamic, complete = (means[name] for name in GRAPHS)
        for steps, words in (
            (np.diff([dealt, static, dynamic, complete]), "ring < static < dynamic < complete"),
            (np.diff([sorted_, dealt, mixed]), "ring sorted < as dealt < interleaved"),
        ):
            verdicts.append(f"{title}: {words}: {'yes' if (steps > 0).all() else 'NO'}")
        closed = (dynamic - static) / (complete - static)
        verdicts.append(
            f"{title}: share of the static-to-complete gap that dynamic closes: {closed:.0%}"
        )
    header = ["setting", "graph", "mean", "deviation", "by deal", "spec 5.3 C"]
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
