"""A one-shot ensemble on CIFAR-10 against one-shot and iterative baselines, for two cores.

Eight clients share 2,000 images of 16 x 16, dealt by a balanced Dirichlet; 500 more are public;
GN-LeNet, 30 epochs alone, a tenth held back as proxies; 2,000 test images; three seeds, which draw
images, split, models and batches anew. FedAvg and FedAdam train on what members train on, one epoch
a round, until the loss on the proxies has not fallen for ten rounds (80 rounds at most); what
counts is the round of its lowest, and their rates are the best of those tried on training images
that were held out, with a seed of its own. So neither looks at a test image. A row of each gives
its accuracy where it has sent what the kept rule costs. DENSE and Co-Boosting make up 1,024 inputs,
as many to a training image as published (25,600 to 50,000). FENS's own figures are those of a
network of 4.9 million parameters after 500 epochs at 32 x 32
(``benchmarks/paper/fens_cifar10_20.yaml``). Some 40 minutes on a core.

At alpha 1 there are only the rules and FedAvg.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Notes, markdown, publish

from hansa.combine.ensemble import combine, prepare
from hansa.combine.ensemble.ensemble_file import EnsembleFile
from hansa.combine.ensemble.run import ensemble

ALPHAS, SEEDS, TUNED = (0.1, 1.0), (90, 91, 92), 7
RATES = {
    "fedavg": [{"optimizer": {"name": "sgd", "lr": lr}} for lr in (0.02, 0.05, 0.1)],
    "fedadam": [
        {"adam_lr": lr, "adam_server_lr": server}
        for lr, server in ((0.02, 0.01), (0.05, 0.01), (0.05, 0.003))
    ],
}
FILE: dict[str, Any] = {
    "verb": "combine",
    "clients": 8,
    "data": {
        "name": "cifar10",
        "downscale": 2,
        "normalize": "standardize",
        "train_samples": 2500,
        "test_samples": 2000,
        "public": 0.2,
        "partition": {"name": "dirichlet", "draw": "balanced", "min_samples": 10},
    },
    "models": ["gn_lenet"],
    "local": {"epochs": 30, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}},
    "rules": [
        "average", "label_weighted", "voting", "per_class",
        {"name": "neural", "width": 2}, {"name": "residual", "width": 2},
    ],
    "aggregate": {"rounds": 500, "every": 500},
    "baselines": {
        "once": [1, 10],
        "rounds": 80,
        "patience": 10,
        "local_epochs": 1,
        "every": 1,
        "distillation": {"epochs": 40, "batch_size": 64},
        "datafree": {
            "epochs": 32, "batch_size": 32, "steps": 10, "width": 32, "generator_lr": 0.01,
            "lr": 0.05,
        },
    },
}  # fmt: skip
ONE_SHOT = ("fedavg_once", "fedkd", "distilled", "dense", "coboosting")
ITERATIVE = ("fedavg", "fedadam")
Cell = list[dict[str, Any]]


def file(smoke: bool, alpha: float, seed: int, methods: tuple[str, ...], **more: Any) -> Any:
    """The settings of one cell of the table."""
    settings = FILE | {"seed": seed}
    settings["baselines"] = settings["baselines"] | more | {"methods": list(methods)}
    settings["data"] = dict(settings["data"])
    if smoke:
        partition = settings["data"]["partition"]
        settings |= {"data": {"name": "digits", "public": 0.1, "partition": partition}}
        settings |= {"clients": 4, "models": ["mlp"], "local": {"epochs": 1}}
        settings |= {"aggregate": {"rounds": 2, "every": 2}}
        settings["baselines"] |= {"rounds": 2, "once": [1], "distillation": {"epochs": 1}}
        settings["baselines"]["datafree"] = {"epochs": 2, "steps": 2, "width": 8, "batch_size": 16}
    settings["data"]["partition"] = settings["data"]["partition"] | {"alpha": alpha}
    return settings


def iterative(alpha: float) -> tuple[str, ...]:
    """What takes rounds in a column of the table."""
    return ITERATIVE[:1] if alpha >= 1 else ITERATIVE


def tune(smoke: bool, alpha: float, method: str, rates: dict[str, Any]) -> float:
    """Accuracy on training images that were held out, after few rounds at some rates."""
    few = {"rounds": 2 if smoke else 15, "patience": None, "every": 1}
    settings = file(smoke, alpha, TUNED, (method,), **rates | few)
    settings["data"]["validation"] = 0.1
    settings |= {"rules": ["average"], "local": settings["local"] | {"epochs": 1}}
    prepared = prepare(EnsembleFile.parse(settings))
    assert prepared.dataset.validation is not None
    judged = replace(prepared.dataset, test=prepared.dataset.validation)
    with tempfile.TemporaryDirectory() as folder:
        done = combine(replace(prepared, dataset=judged), Path(folder), lambda text: None)
    return float(done.table[-1]["accuracy"])


def cell(smoke: bool, alpha: float, seed: int, rates: dict[str, dict[str, Any]]) -> Cell:
    """The lines of one ensemble's table, with rows at the bytes of the rule that is kept."""
    methods = iterative(alpha) if alpha >= 1 else (*ONE_SHOT, *ITERATIVE)
    chosen = {k: v for rate in rates.values() for k, v in rate.items()}
    settings = file(smoke, alpha, seed, methods, **chosen)
    with tempfile.TemporaryDirectory() as folder:
        say = lambda text: print(f"alpha {alpha}, seed {seed}: {text}", flush=True)  # noqa: E731
        run = ensemble(settings, Path(folder) / "run", say, report=False)
        kept = (run.summary or {})["chosen"]
        rows = (run.read_json("table.json") or {})["rows"]
    rule = next(row for row in rows if row["name"] == kept)
    found = [row | {"kept": row is rule} for row in rows]
    found.append({**rule, "name": "kept rule", "kind": "kept", "note": kept, "kept": False})
    for row in rows:
        if row["name"] in ITERATIVE:
            spent = [point for point in row["curve"] if point[2] <= rule["counted"]]
            at = spent[-1] if spent else (0, float("nan"), 0.0)
            note = f"round {at[0]}" + ("" if at is not row["curve"][-1] else ", its last")
            even = {"name": f"{row['name']}, equal bytes", "accuracy": at[1], "counted": at[2]}
            found.append(even | {"kind": "even", "kept": False, "note": note})
    return [{k: v for k, v in row.items() if k != "curve"} for row in found]


def page(found: dict[float, list[Cell]], tried: list[list[str]]) -> str:
    """The tables as markdown, and what follows from them."""
    rows = []
    names = dict.fromkeys(row["name"] for cells in found.values() for c in cells for row in c)
    for name in names:
        line = [name]
        for cells in found.values():
            lines = [row for c in cells for row in c if row["name"] == name]
            if not lines:
                line += ["", "", ""]
                continue
            times = sum(bool(row["kept"]) for row in lines)
            mean, worst = spread(lines)
            line += [f"{mean:.3f}" + f" ({times} kept)" * bool(times), f"{worst:.3f}"]
            line.append(f"{statistics.mean(row['counted'] for row in lines) / 1e6:.2f}")
        rows.append(line)
    seeds = max(map(len, found.values()))
    header = ["method"]
    for alpha in found:
        header += [f"alpha {alpha}: mean", "worst", "MB a client"]
    text = markdown(
        f"One-shot ensembles on small CIFAR-10, 8 clients, {seeds} seeds: test accuracy",
        "python benchmarks/combine/ensemble_cifar.py",
        header,
        rows,
    )
    text += "\nMB: counted, mean over seeds; of FedAvg and FedAdam up to the round that counts.\n"
    text += "\n## What follows\n\n" + "".join(f"- {line}\n" for line in sentences(found))
    text += "\n## Rates tried on held-out training images\n\n"
    text += "| alpha | method | rates | accuracy |\n|---|---|---|---|\n"
    text += "".join("| " + " | ".join(row) + " |\n" for row in tried) + "\n## Remarks\n\n"
    for alpha, cells in found.items():
        for seed, lines in zip(SEEDS, cells, strict=False):
            for row in lines:
                if row.get("note"):
                    text += f"- alpha {alpha}, seed {seed}, {row['name']}: {row['note']}\n"
    return text


def spread(lines: list[dict[str, Any]]) -> tuple[float, float]:
    """(mean, worst) accuracy."""
    values = [row["accuracy"] for row in lines]
    return statistics.mean(values), min(values)


def sentences(found: dict[float, list[Cell]]) -> list[str]:
    """The kept rule against every other line, seed by seed, as counted."""
    text = []
    for alpha, cells in found.items():
        others = dict.fromkeys(
            row["name"] for row in cells[0] if row["kind"] in ("baseline", "even", "member")
        )
        for name in (*others, "average", "label_weighted"):
            gains = [
                next(row["accuracy"] for row in lines if row["kind"] == "kept")
                - next(row["accuracy"] for row in lines if row["name"] == name)
                for lines in cells
            ]
            wins, mean = sum(gain > 0 for gain in gains), statistics.mean(gains)
            word = "above" if mean > 0 else "below"
            text.append(
                f"alpha {alpha}: the kept rule is {100 * abs(mean):.1f} points {word} {name} on "
                f"average, above it in {wins} of {len(gains)} seeds, at worst by "
                f"{100 * min(gains):+.1f} points"
            )
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="digits, few rounds")
    parser.add_argument("--notes", help="a file of results, to go on after a stop")
    given = parser.parse_args()
    notes, tried = Notes(given.notes), []
    found: dict[float, list[Cell]] = {}
    for alpha in ALPHAS[:1] if given.smoke else ALPHAS:
        best: dict[str, dict[str, Any]] = {}
        for method in iterative(alpha):
            judged = []
            for rates in RATES[method]:
                work = lambda: tune(given.smoke, alpha, method, rates)  # noqa: B023, E731
                accuracy = notes.get(f"tune {alpha} {method} {rates}", work)
                judged.append((accuracy, rates))
                tried.append([f"{alpha}", method, f"{rates}", f"{accuracy:.3f}"])
                print(*tried[-1], flush=True)
            best[method] = max(judged, key=lambda one: one[0])[1]
        for seed in SEEDS[:1] if given.smoke else SEEDS:
            work = lambda: cell(given.smoke, alpha, seed, best)  # noqa: B023, E731
            found.setdefault(alpha, []).append(notes.get(f"{alpha} {seed}", work))
    publish("ensemble_cifar", page(found, tried), given.smoke)


if __name__ == "__main__":
    main()
