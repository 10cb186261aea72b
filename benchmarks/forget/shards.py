"""Cohorts as shards against QuickDrop: forgetting clients of digits, the same clients and model.

    python benchmarks/forget/shards.py            # 3 seeds, about 30 minutes on one thread
    python benchmarks/forget/shards.py --smoke    # one seed, a few rounds, two clients

20 clients (Dirichlet 0.1 of each class) share 1,101 digits, 337 are public and without labels.
ConvNet of depth 2 and width 16, 60 rounds of 5 steps at rate 0.1, as in digits.py. QuickDrop trains
with up to 32 examples of every class in a step; the cohorts (CPFL, no early stopping) with batches
of 32, averaged by numbers of examples, and are distilled on the public digits in 100 epochs of
batches of 32, or averaged. The ten clients with most examples are forgotten, each from the same
trained model, and judged by their own training examples. QuickDrop's oracle trains again without
the client, for each; that of cohorts, the whole run again with the same cohorts, is run for one
client of a seed, to see that it is the same model. One cohort is plain FedAvg: there forgetting is
retraining, and it is run for two clients of a seed. Settings were chosen on seed 0. QuickDrop is
measured as it is by default and as published: one round of ascent, then two of recovery.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import digits
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Notes, markdown, publish
from measure_forgetting import Bench

from hansa.experiment import run
from hansa.forget import (
    Ascent,
    Forgetting,
    QuickDrop,
    Recovery,
    Request,
    Retrain,
    Shards,
)
from hansa.forget.trained import open_trained

SEEDS, NODES, ROUNDS, FORGOTTEN = 3, 20, 60, 10
EPOCHS = 100
SYSTEMS = (
    "quickdrop, one ascent",
    "quickdrop",
    "1 cohort",
    "2 cohorts",
    "4 cohorts",
    "4 cohorts, averaged",
)
COLUMNS = (
    "f before", "t before", "forget", "oracle", "gap", "retain", "test", "auc", "training",
    "distilling", "oracle's", "times less", "seconds", "MB",
)  # fmt: skip
Figures = dict[str, float]
ONE_ASCENT = QuickDrop(  # as published: one round of ascent, recovery half on synthetic images
    ascent=Ascent(client_rounds=1),
    recovery=Recovery(rounds=2, steps=10, rechecks=0),
    real_share=0.5,
)


def settings(system: str, seed: int, rounds: int, epochs: int) -> dict[str, Any]:
    """The run that is to forget."""
    algorithm: dict[str, Any] = {"name": "quickdrop"}
    if "quickdrop" not in system:
        algorithm = {
            "name": "cpfl",
            "cohorts": int(system.split()[0]),
            "stop": None,
            "select": "last",
            "weighting": "examples",
            "merge": "average" if system.endswith("averaged") else "distill",
            "distillation": {"epochs": epochs, "batch_size": 32},
        }
    chosen = digits.settings(seed, rounds) | {"nodes": NODES, "algorithm": algorithm}
    chosen["data"]["public"] = 337 / 1438
    return chosen


def served(bench: Bench, method: Forgetting) -> tuple[torch.Tensor, Figures]:
    """(the model [D], its cost) of one request."""
    row, ledger, _ = bench.forgotten(method)
    total, phases = ledger.total, ledger.phases
    distilling = phases["distillation"].sample_gradients if "distillation" in phases else 0
    return row, {
        "training": total.sample_gradients - distilling,
        "distilling": distilling,
        "gradients": total.sample_gradients,
        "seconds": total.seconds,
        "MB": total.bytes / 1e6,
    }


def one_system(
    system: str, seed: int, rounds: int, epochs: int, items: int, oracles: list[Figures]
) -> list[Figures]:
    """What :data:`COLUMNS` names for each client that is forgotten, accuracies in percent.

    Args:
        oracles: what was found for the same run and clients before, or nothing.
    """
    ways: dict[str, Forgetting] = {"quickdrop, one ascent": ONE_ASCENT, "quickdrop": QuickDrop()}
    method = ways.get(system, Shards())
    if system == "1 cohort":
        method, items = Retrain(), min(items, 2)
    found: list[Figures] = []
    with tempfile.TemporaryDirectory() as place:
        chosen = settings(system, seed, rounds, epochs)
        folder = run(chosen, out=Path(place) / "run", report=False)
        trained = open_trained(folder.path)
        sizes = np.array([len(part) for part in trained.job.parts])
        oracle: Figures = {}
        for client in np.argsort(-sizes, kind="stable")[:items].tolist():
            judge = Bench(trained.case(Request.of(clients=[client])))
            before = judge.figures(judge.row)
            row, cost = served(judge, method)
            after = judge.figures(row)
            perfect, apart = after["forget"], 0.0
            if known := {row["client"]: row for row in oracles}.get(client):
                perfect = known["oracle"] / 100
                oracle = {"gradients": known["oracle's"], "seconds": known["oracle's seconds"]}
            elif system in ways or (not oracle and method.name == "shards"):
                model, oracle = served(judge, Retrain())
                perfect, apart = judge.figures(model)["forget"], float((model - row).abs().max())
            elif method.name == "retrain":
                oracle = cost
            # Of shards and retraining the oracle is the model itself, see "apart".
            found.append({
                "client": client,
                "examples": int(sizes[client]),
                "f before": 100 * before["forget"],
                "t before": 100 * before["test"],
                "forget": 100 * after["forget"],
                "oracle": 100 * perfect,
                "gap": 100 * abs(after["forget"] - perfect),
                "retain": 100 * after["retain"],
                "test": 100 * after["test"],
                "auc": after["membership_auc"],
                **cost,
                "oracle's": oracle["gradients"],
                "times less": oracle["gradients"] / cost["gradients"],
                "oracle's seconds": oracle["seconds"],
                "apart": apart,
            })  # fmt: skip
    return found


def mean(rows: list[Figures]) -> Figures:
    """Column by column; costs as ratios of means."""
    found = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    found["times less"] = found["oracle's"] / found["gradients"]
    return found


def verdicts(means: dict[str, Figures], apart: float) -> list[str]:
    """What was to be shown, with yes or NO."""
    once_up, quick = means["quickdrop, one ascent"], means["quickdrop"]
    two, four = means["2 cohorts"], means["4 cohorts"]
    bare, plain = means["4 cohorts, averaged"], means["1 cohort"]
    lost = plain["t before"] - four["t before"]
    dearer = four["gradients"] / quick["gradients"]
    once = (four["oracle's"] - four["distilling"]) / four["training"]
    checks = [
        ("shards: largest difference of a parameter to the oracle is 0", apart, apart == 0),
        (
            "quickdrop, one ascent: forget within 5 points of its oracle",
            once_up["gap"],
            once_up["gap"] <= 5,
        ),
        ("quickdrop: forget within 5 points of its oracle", quick["gap"], quick["gap"] <= 5),
        ("4 cohorts, distilled: test within 2 points of one cohort", lost, lost <= 2),
        (
            "2 cohorts: >= 1.5 times less than retraining",
            two["times less"],
            two["times less"] >= 1.5,
        ),
        ("4 cohorts: >= 3 times less than retraining", four["times less"], four["times less"] >= 3),
        ("4 cohorts, without distilling: >= 3 times less", once, once >= 3),
        ("4 cohorts, averaged: >= 3 times less", bare["times less"], bare["times less"] >= 3),
        ("quickdrop: >= 10 times less than 4 cohorts", dearer, dearer >= 10),
    ]
    return [f"{what} ({value:.3g}): {'yes' if ok else 'NO'}" for what, value, ok in checks]


def shown(value: float, name: str) -> str:
    """A cell of the table."""
    if name in ("training", "distilling", "oracle's"):
        return f"{value:,.0f}"
    return f"{value:.2f}" if name in ("auc", "seconds", "MB") else f"{value:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one seed, a few rounds")
    parser.add_argument("--notes", help="a file for what is done, to go on from if stopped")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the models are small
    smoke, notes = arguments.smoke, Notes(arguments.notes)
    seeds, rounds, epochs, items = (
        (1, 2, 2, 2) if smoke else (arguments.seeds, ROUNDS, EPOCHS, FORGOTTEN)
    )
    found: dict[str, list[Figures]] = {system: [] for system in SYSTEMS}
    for seed in range(1, seeds + 1):
        for system in SYSTEMS:
            same = found["quickdrop, one ascent"][-items:] if system == "quickdrop" else []
            work = partial(one_system, system, seed, rounds, epochs, items, same)
            found[system] += notes.get(f"{system}, seed {seed}", work)
    means = {system: mean(rows) for system, rows in found.items()}
    rows = [[s, *(shown(m[c], c) for c in COLUMNS)] for s, m in means.items()]
    command = "python benchmarks/forget/shards.py" + f" --seeds {seeds}" * (seeds != SEEDS)
    title = "Cohorts as shards against QuickDrop: forgetting clients of digits"
    text = markdown(title, command, ["system", *COLUMNS], rows)
    apart = max(row["apart"] for s in SYSTEMS if "cohorts" in s for row in found[s])
    text += (
        f"\n{seeds} seed(s), {items} clients each (one cohort: two). Forget: accuracy on the "
        "client's own training examples; oracle: that of the same system trained without it; "
        "gap: mean distance between them; f before, t before: on the client's examples and on "
        "the test set before. Training, distilling: sample gradients of a request, on clients' "
        "and on public examples; oracle's: those of training the same system again; times less: "
        "their ratio. Cohorts need public examples unless they are averaged, QuickDrop needs none, "
        "but keeps synthetic images of all data. Seconds on a machine that others used as well.\n\n"
    )
    if not smoke:
        text += "\n".join(f"- {line}" for line in verdicts(means, apart)) + "\n"
    publish("forget_shards", text, smoke)


if __name__ == "__main__":
    main()
