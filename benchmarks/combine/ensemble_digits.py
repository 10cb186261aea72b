"""One-shot ensembles against their baselines on digits, at several degrees of heterogeneity.

Ten clients, a perceptron 64-64-10 each, SGD 0.05, batches of 16, 60 epochs with a cosine, different
initial numbers; a tenth held back (some 140 rows in all); weights in 8 bits; FedAdam on cached
scores for 500 rounds, its last round; FedAvg and FedAdam with all examples, 30 rounds of two
epochs, the best of every fifth on the test set; one-shot FedAvg the best of 1, 5 and 20 epochs.
Classes are dealt by a balanced Dirichlet; the file asks for ten examples a client.

`auto` is the rule that a file keeps by itself, chosen on the proxies alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Notes, markdown, publish

from hansa.combine.ensemble.run import ensemble
from hansa.report import RunFolder

ALPHAS = (0.01, 0.05, 0.1, 0.5, 1.0)
SEEDS = (90, 91, 92)
RULES = ("average", "label_weighted", "voting", "linear", "per_class", "neural", "residual")
METHODS = ("fedavg_once", "fine_tuned", "fedavg", "fedadam")


def settings(alpha: float, seed: int, smoke: bool = False) -> dict[str, Any]:
    """An ensemble's file."""
    found: dict[str, Any] = {
        "seed": seed,
        "clients": 10,
        "data": {
            "name": "digits",
            "partition": {
                "name": "dirichlet", "alpha": alpha, "draw": "balanced", "min_samples": 10,
            },
        },
        "rules": [
            *RULES[:-2],
            {"name": "neural", "width": 4},
            {"name": "residual", "width": 4},
        ],
        "baselines": {"methods": list(METHODS)},
    }  # fmt: skip
    if smoke:
        found["local"] = {"epochs": 2}
        found["aggregate"] = {"rounds": 3, "every": 3}
        found["baselines"] |= {"rounds": 2, "every": 1, "once": [1]}
    return found


def scores(alpha: float, seed: int, smoke: bool) -> dict[str, float]:
    """Accuracy by name, and seconds of phase 2."""
    with tempfile.TemporaryDirectory() as folder:
        found: RunFolder = ensemble(
            settings(alpha, seed, smoke), Path(folder) / "run", report=False
        )
        table = (found.read_json("table.json") or {})["rows"]
        summary = found.summary or {}
    accuracy = {row["name"]: row["accuracy"] for row in table}
    return accuracy | {"auto": summary["accuracy"]}


def gates(mean: dict[float, dict[str, float]]) -> list[list[str]]:
    """The orderings of the specification, and the promise of the automatic rule."""
    rows = []

    def gate(words: str, value: float, met: bool) -> None:
        rows.append([words, f"{value:+.3f}", "yes" if met else "NO"])

    for alpha in (0.01, 0.05):
        m = mean[alpha]
        nn = m["neural"]
        for rule, least in (("average", 0.20), ("label_weighted", 0.08), ("voting", 0.12)):
            gap = nn - m[rule]
            gate(f"alpha {alpha}: neural - {rule} >= {least}", gap, gap >= least)
        gap = nn - m["fedadam"]
        gate(f"alpha {alpha}: neural within 0.05 of FedAdam", gap, abs(gap) <= 0.05)
        gap = min(m[rule] for rule in RULES) - m["fedavg_once"]
        gate(f"alpha {alpha}: every rule above one-shot FedAvg", gap, gap > 0)
    m = mean[1.0]
    gap = m["fedavg"] - m["neural"]
    gate("alpha 1: FedAvg >= neural", gap, gap >= 0)
    gap = m["label_weighted"] - m["neural"]
    gate("alpha 1: label_weighted >= neural - 0.02", gap, gap >= -0.02)
    for alpha, m in mean.items():
        gap = m["auto"] - max(m[rule] for rule in RULES[:3])
        gate(f"alpha {alpha}: auto >= best simple rule - 0.01", gap, gap >= -0.01)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one seed, few rounds")
    parser.add_argument("--notes", help="a file of results, to go on after a stop")
    given = parser.parse_args()
    notes = Notes(given.notes)
    found: dict[float, dict[str, list[float]]] = {}
    for alpha in ALPHAS[:1] if given.smoke else ALPHAS:
        for seed in SEEDS[:1] if given.smoke else SEEDS:
            work = lambda: scores(alpha, seed, given.smoke)  # noqa: B023, E731 - called at once
            for name, value in notes.get(f"{alpha} {seed}", work).items():
                found.setdefault(alpha, {}).setdefault(name, []).append(value)
            print(f"alpha {alpha}, seed {seed} done", flush=True)
    names = ["best client", *METHODS[:1], *RULES, "auto", *METHODS[1:]]
    rows = [
        [name, *(f"{np.mean(f[name]):.3f} +- {np.std(f[name]):.3f}" for f in found.values())]
        for name in names
    ]
    command = "python benchmarks/combine/ensemble_digits.py"
    header = ["method", *(f"alpha {alpha}" for alpha in found)]
    text = markdown("One-shot ensembles on digits: accuracy, 3 seeds", command, header, rows)
    if not given.smoke:
        mean = {a: {n: float(np.mean(v)) for n, v in f.items()} for a, f in found.items()}
        text += "\n| gate | difference | met |\n|---|---|---|\n"
        text += "".join("| " + " | ".join(row) + " |\n" for row in gates(mean))
    publish("ensemble_digits", text, given.smoke)


if __name__ == "__main__":
    main()
