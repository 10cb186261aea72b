"""A hundred clients: forgetting classes and clients where everybody holds little.

    python benchmarks/forget/hundred.py            # 3 seeds, about 20 minutes on a core
    python benchmarks/forget/hundred.py --smoke    # one seed, a few rounds

The digits of digits.py dealt to 100 clients (Dirichlet 0.3 of each class, two examples at least),
20 of them invited in each of 60 rounds; everything else as there, the updates of every second round
kept. Each class goes in turn, and each tenth client by size, always from the same trained model.
Every request is also retrained without, classes two of a seed. A client has 14 examples on average,
and keeps one image at least of each of its classes: *images* counts them, beside 1,438 examples.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import digits
import numpy as np
import torch
from measure_forgetting import Bench, Row, closest, figures, lines, over, served, table

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Notes, markdown, publish

from hansa.experiment import run
from hansa.forget import (
    FedEraser,
    Forgetting,
    GradientAscent,
    ProjectedAscent,
    QuickDrop,
    RandomReal,
    Request,
    Retrain,
)
from hansa.forget.trained import Trained, open_trained

SEEDS, CLIENTS = 3, 100
RETRAINED = 2
BY_CLASS: dict[str, Forgetting] = {
    "quickdrop": QuickDrop(),
    "random real": RandomReal(),
    "sga": GradientAscent(),
}
BY_CLIENT: dict[str, Forgetting] = {
    "federaser": FedEraser(),
    "quickdrop": QuickDrop(),
    "random real": RandomReal(),
    "sga": GradientAscent(),
    "pgd": ProjectedAscent(),
}
COLUMNS = ("forget", "worst forget", "retain", "worst retain", "test", "gradients", "checks",
           "bytes", "seconds")  # fmt: skip
APART = ("forget", "apart", "worst apart", "agree", "retain", "worst retain", "gradients", "bytes",
         "seconds")  # fmt: skip


def settings(seed: int, rounds: int, nodes: int) -> dict[str, Any]:
    """The run that is to forget."""
    chosen = digits.settings(seed, rounds)
    chosen["nodes"] = nodes
    chosen["data"]["partition"] = {
        "name": "dirichlet", "alpha": 0.3, "draw": "class", "min_samples": 2,
    }  # fmt: skip
    chosen["algorithm"] = {"name": "quickdrop", "keep_updates": 2, "sampled": max(1, nodes // 5)}
    return chosen


def request_figures(
    trained: Trained, request: Request, methods: dict[str, Forgetting], oracle: bool
) -> dict[str, Row]:
    """Figures of each method for one request."""
    judge = Bench(trained.case(request))
    perfect, cost = served(judge, Retrain()) if oracle else (None, None)
    found = {"before": figures(judge, judge.row, None, perfect)}
    if perfect is not None:
        found["retrain"] = figures(judge, perfect, cost, perfect)
    for name, method in methods.items():
        row, spent = served(judge, method)
        found[name] = figures(judge, row, spent, perfect)
    return found


def one_seed(seed: int, rounds: int, nodes: int, few: bool) -> dict[str, Any]:
    """Means over classes and over clients, and how many images there are."""
    with tempfile.TemporaryDirectory() as place:
        folder = run(settings(seed, rounds, nodes), out=Path(place) / "run", report=False)
        trained = open_trained(folder.path)
        assert trained.layout is not None  # it distils
        by_class, by_client = ({"quickdrop": QuickDrop()},) * 2 if few else (BY_CLASS, BY_CLIENT)
        classes = [
            request_figures(trained, Request.of(classes=[c]), by_class, c < RETRAINED)
            for c in range(1 if few else 10)
        ]
        order = np.argsort([-len(part) for part in trained.job.parts], kind="stable")
        leavers = order[:: nodes // 10][: 1 if few else 10].tolist()
        left = [request_figures(trained, Request.of(clients=[c]), by_client, True) for c in leavers]
        return {
            "classes": over(classes),
            "clients": over(left),
            "images": int(trained.layout.counts.sum()),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one seed, a few rounds")
    parser.add_argument("--notes", help="a file for what is done, to go on from if stopped")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the models are small
    smoke, notes = arguments.smoke, Notes(arguments.notes)
    seeds, rounds, nodes = (1, 2, 20) if smoke else (arguments.seeds, 60, CLIENTS)
    runs = [
        notes.get(
            f"seed {seed}",
            lambda s=seed: one_seed(s, rounds, nodes, smoke),  # type: ignore[misc]
        )
        for seed in range(1, seeds + 1)
    ]
    classes, clients = (over([r[level] for r in runs]) for level in ("classes", "clients"))
    command = "python benchmarks/forget/hundred.py" + f" --seeds {seeds}" * (seeds != SEEDS)
    text = markdown(
        f"Forgetting among {nodes} clients: digits, each class in turn",
        command,
        ["method", *COLUMNS],
        table(classes, COLUMNS),
    )
    images = np.mean([r["images"] for r in runs])
    text += (
        "\nClients in turn; forget is the accuracy on their own training examples, apart its "
        "distance to that of a model retrained without the client:\n\n"
        + lines(["method", *APART], table(clients, APART))
        + f"\n{closest(clients, list(BY_CLIENT))}\n"
        f"\n{seeds} seed(s), {rounds} rounds; accuracies in percent, means, and the worst request "
        f"of all. {images:.0f} synthetic images stand beside 1,438 examples.\n"
    )
    publish("forget_hundred", text, smoke)


if __name__ == "__main__":
    main()
