"""Merging eight views of digits: accuracy against size, by algorithm, order and linkage.

A vision transformer of 26,432 parameters is pre-trained on 1,200 plain digits and fine-tuned to
eight views; heads are linear probes of the pre-trained features, frozen, as in
``examples/digits_merge.yaml``. 447 images test, drawn anew by each seed; 150 more tune lambda.
Everything is a share of the fine-tuned models' accuracy, the mean over tasks. Orders and linkages
are task arithmetic's, lambda 1.5. The last tables are of cases that no setting was chosen on: four
namings of the same image, and eight sites with skewed classes that trained a perceptron alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Notes, markdown, publish

from hansa.combine.merge.artefact import Artefact
from hansa.combine.merge.crossings import crossings
from hansa.combine.merge.cut import cut
from hansa.combine.merge.cutting import evaluate
from hansa.combine.merge.run import merge
from hansa.experiment.run import run
from hansa.experiment.settings_file import read_settings_file

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits_merge.yaml"
SEEDS = (1, 2, 3)
SIZES = (1.0, 2.0, 3.0, 5.0, 7.0, 8.0)
ALGORITHMS: tuple[Any, ...] = (
    "averaging",
    {"name": "task_arithmetic", "scale": 1.5},
    {"name": "ties", "density": 0.2},
    "pcb",
    {"name": "dare", "drop": 0.5},
    "tsv_m",
    "consensus",
    "emr",
    {"name": "tall_mask", "threshold": 0.3, "inner": {"name": "task_arithmetic", "scale": 1.5}},
)
PLAIN = ("averaging", "task_arithmetic", "ties")
ORDERS: tuple[tuple[str, str], ...] = (
    *(("greedy", linkage) for linkage in ("min", "mean", "max")),
    *((order, "min") for order in ("knapsack", "random", "left_right", "right_left")),
    *((order, "min") for order in ("whole_models", "kmeans")),
)
GRID = (0.5, 0.75, 1.0, 1.5)
Shares = dict[str, dict[str, list[float]]]
"""By row and column, one number a seed."""


def tried(smoke: bool) -> tuple[Any, ...]:
    """The algorithms; of a smoke test few."""
    return (*ALGORITHMS[:3], "emr") if smoke else ALGORITHMS


def quick(smoke: bool) -> dict[str, Any]:
    """Settings of the tasks that a smoke test makes small."""
    small = {"train": 100, "epochs": 1, "pretrain_epochs": 1, "views": ["mirror", "roll"]}
    return small if smoke else {}


def curve(seed: int, place: Path, smoke: bool, **more: Any) -> dict[str, Any]:
    """A run's final figures."""
    tasks = {"name": "digits_views", **quick(smoke), **more.pop("tasks", {})}
    sizes = list(more.pop("sizes", SIZES))
    sizes = [size for size in sizes if size <= 2] if smoke else sizes
    settings = {
        **read_settings_file(EXAMPLE), "seed": seed, "tasks": tasks, "algorithms": tried(smoke),
        "sizes": sizes, "least_gain": 0, **more,
    }  # fmt: skip
    folder = merge(settings, place, report=False)
    summary = folder.summary or {}
    forecast = (folder.read_json("merge.json") or {}).get("forecast") or {}
    return {**summary["final"], "forecast": forecast, "margin": summary["margin"],
            "tried": summary["tuning_evaluations"]}  # fmt: skip


def by_orders(place: Path, sizes: tuple[float, ...], smoke: bool) -> dict[str, dict[str, float]]:
    """Normalised accuracy of a run's artefact in every order, by size."""
    artefact, shares = Artefact.open(place / "artefact"), {}
    for order, linkage in ORDERS[::4] if smoke else ORDERS:
        row = shares[f"{order} {linkage}" if order == "greedy" else order] = {}
        for size in sizes:
            file = place / "order.safetensors"
            cut(artefact, "task_arithmetic", file, size=size, order=order, linkage=linkage, seed=1)
            row[f"{size:g}x"] = evaluate(file, place)["curve"][0]["normalised"]
            file.unlink()
    return shares


def sites(seed: int, smoke: bool) -> dict[str, Any]:
    """Eight sites, classes by a Dirichlet of 0.3, trained alone from one initial network."""
    settings = {
        "algorithm": "isolated", "nodes": 8, "rounds": 2 if smoke else 60, "seed": seed,
        "model": {"name": "mlp", "hidden": [48]}, "checkpoint": {"every": 1000},
        "data": {"name": "digits", "partition": {"name": "dirichlet", "alpha": 0.3}},
        "train": {"local_steps": 10, "optimizer": {"name": "sgd", "lr": 0.05}},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run(settings, Path(folder) / "run", report=False)
        chosen = {
            "tasks": {"name": "sites", "run": str(Path(folder) / "run"), "judged_on": "all"},
            "algorithms": tried(smoke), "sizes": [1, 2, 3, 5, 8], "least_gain": 0, "seed": seed,
        }  # fmt: skip
        return (merge(chosen, Path(folder) / "merge", report=False).summary or {})["final"]


def seed_of(seed: int, smoke: bool) -> dict[str, Any]:
    """All that is measured of a seed, as plain data."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        final = curve(seed, place, smoke)
        ends = {key: final["references"][key]["accuracy"] for key in ("zero_shot", "fine_tuned")}
        sizes = (2.0,) if smoke else (2.0, 3.0, 5.0)
        orders = by_orders(place, sizes, smoke)
        tuned = curve(
            seed,
            Path(folder) / "tuned",
            smoke,
            tune=GRID[:2] if smoke else GRID,
            sizes=(1.0, 2.0, 3.0),
        )
        names = ["parity", "mod_3", "above_4", "loops"]
        outputs = Path(folder) / "outputs"
        named = curve(seed, outputs, smoke, tasks={"views": names}, sizes=(1.0, 2.0, 3.0, 4.0),
                      algorithms=ALGORITHMS[:3])  # fmt: skip
        by_name = by_orders(outputs, (2.0,), smoke)
    return {
        "curve": shares(final["curve"]),
        "worst": shares(final["curve"], "worst"),
        "ends": ends,
        "base": floor(final),
        "crossings": [list(c) for c in crossings(final["curve"], final["margin"])],
        "forecast": {k: final["forecast"].get(k) for k in ("off", "off_by_size")},
        "orders": orders,
        "tuned": shares(tuned["curve"]),
        "tried": tuned["tried"],
        "named": shares(named["curve"]),
        "named_base": floor(named),
        "named_orders": by_name,
        "sites": accuracies(sites(seed, smoke)),
    }


def shares(rows: list[dict[str, Any]], key: str = "normalised") -> dict[str, dict[str, float]]:
    """Rows by algorithm and size; the least size of what has masks is ``least``."""
    by_size: dict[str, dict[str, float]] = {}
    for row in rows:
        size = "least" if row.get("least") else f"{row['size']:g}x"
        by_size.setdefault(row["algorithm"], {})[size] = row[key]
    return by_size


def floor(final: Mapping[str, Any]) -> float:
    """What the base keeps."""
    base, tuned = (final["references"][key]["by_task"] for key in ("zero_shot", "fine_tuned"))
    return float(np.mean([base[task] / tuned[task] for task in base]))


def accuracies(final: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Of sites, whose models are no ceiling: accuracy, and that of each site's own model."""
    own = {"alone": {"8x": final["references"]["fine_tuned"]["accuracy"]}}
    return own | shares(final["curve"], "accuracy")


def gathered(each: list[dict[str, Any]], key: str) -> Shares:
    """Figures of all seeds, by row and column."""
    figures: Shares = {}
    for one in each:
        for name, row in one[key].items():
            for column, value in row.items():
                figures.setdefault(name, {}).setdefault(column, []).append(100 * value)
    return figures


def table(figures: Shares, first: str) -> list[str]:
    """A table in lines: the mean over seeds, and how far they lie apart."""
    columns = list(dict.fromkeys(column for row in figures.values() for column in row))
    columns.sort(key=lambda c: 2.25 if c == "least" else float(c[:-1]))
    lines = ["| " + " | ".join([first, *columns]) + " |", "|" + "---|" * (len(columns) + 1)]
    for name, row in figures.items():
        cells = [
            f"{np.mean(row[c]):.1f} ± {np.std(row[c]):.1f}" if c in row else "" for c in columns
        ]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return [*lines, ""]


def spanned(values: list[float]) -> str:
    """A mean and its deviation over seeds."""
    return f"{np.mean(values):.1f} ± {np.std(values):.1f}" if values else ""


def gates(each: list[dict[str, Any]]) -> list[list[str]]:
    """What the specification asserts, seed by seed; the last on the mean."""
    rows = []

    def gate(words: str, met: Callable[[dict[str, Any]], float]) -> None:
        gaps = [100 * met(one) for one in each]
        by_seed = ", ".join(f"{gap:+.1f}" for gap in gaps)
        rows.append([words, by_seed, "yes" if min(gaps) > 0 else "NO"])

    def rise(one: dict[str, Any], name: str) -> float:
        row = one["curve"][name]
        return min(row[b] - row[a] for a, b in pairwise(RISING))

    def spread(one: dict[str, Any], columns: list[str]) -> float:
        held = [row[c] for row in one["curve"].values() for c in columns if c in row]
        return max(held) - min(held)

    gate(
        "(a) every algorithm keeps all at 8x",
        lambda one: 1e-9 - max(abs(1 - row["8x"]) for row in one["curve"].values()),
    )
    for name in PLAIN:
        gate(f"(b) {name} rises from 1x to 7x", lambda one: rise(one, name))  # noqa: B023
    gate(
        "(c) EMR at its least over every plain one at 3x",
        lambda one: one["curve"]["emr"]["least"] - max(one["curve"][n]["3x"] for n in PLAIN),
    )
    gate(
        "(d) spread at 7x under a third of that at 2.25x to 3x",
        lambda one: spread(one, ["least", "3x"]) / 3 - spread(one, ["7x"]),
    )
    gate(
        "(e) greedy over left to right at 3x",
        lambda one: one["orders"]["greedy min"]["3x"] - one["orders"]["left_right"]["3x"],
    )
    for low, high in (("mean", "min"), ("max", "mean")):
        gap = float(np.mean([
            one["orders"][f"greedy {high}"]["3x"] - one["orders"][f"greedy {low}"]["3x"]
            for one in each
        ]))  # fmt: skip
        words = f"{high} linkage over {low} at 3x, mean of the seeds"
        rows.append([words, f"{100 * gap:+.1f}", "yes" if gap >= 0 else "NO"])
    return rows


RISING = ("1x", "2x", "3x", "5x", "7x")


def controls(each: list[dict[str, Any]]) -> list[list[str]]:
    """What needs no method, beside the method: first, where it does as well."""
    figures, orders = gathered(each, "curve"), gathered(each, "orders")
    rows = []
    base = float(np.mean([100 * one["base"] for one in each]))
    for size in ("1x", "2x", "3x"):
        held = {name: float(np.mean(row[size])) for name, row in figures.items() if size in row}
        if held:
            best = max(held, key=lambda name: held[name])
            rows.append(["the base, one model", f"{base:.1f}", f"{best} at {size}",
                         f"{held[best]:.1f}"])  # fmt: skip
    for size in orders["greedy min"]:
        greedy = float(np.mean(orders["greedy min"][size]))
        for control in ("random", "right_left", "knapsack"):
            if control in orders:
                value = float(np.mean(orders[control][size]))
                rows.append([f"{control} at {size}", f"{value:.1f}", f"greedy at {size}",
                             f"{greedy:.1f}"])  # fmt: skip
    return [[*row, "yes" if float(row[1]) >= float(row[3]) else ""] for row in rows]


def report(each: list[dict[str, Any]], smoke: bool) -> str:
    """The page of results."""
    ends = {k: 100 * np.mean([one["ends"][k] for one in each]) for k in ("zero_shot", "fine_tuned")}
    base = [100 * one["base"] for one in each]
    command = "python benchmarks/combine/merge_digits.py"
    title = f"Merging eight views of digits: % of the fine-tuned accuracy, {len(each)} seeds"
    figures = gathered(each, "curve")
    heads = ["other way", "keeps", "method", "keeps", "the other as good"]
    text = markdown(title, command, heads, controls(each))
    lines = [
        "",
        f"Fine-tuned models are right in {ends['fine_tuned']:.1f} %, the base in "
        f"{ends['zero_shot']:.1f} %: it keeps {min(base):.1f} to {max(base):.1f} by seed.",
        "",
        "| gate | by seed | met |",
        "|---|---|---|",
        *["| " + " | ".join(row) + " |" for row in ([] if smoke else gates(each))],
        "",
        "## By algorithm",
        *table(figures, "algorithm"),
        "The task that fares worst:",
        "",
        *table(gathered(each, "worst"), "algorithm"),
        f"## Lambda tuned on validation images, of {', '.join(map(str, GRID))} at each size",
        f"{each[0]['tried']} cuts were evaluated a seed; `emr` and `averaging` have no lambda.",
        "",
        *table(gathered(each, "tuned"), "algorithm"),
        "## By order and linkage, task arithmetic",
        *table(gathered(each, "orders"), "order"),
        "## Crossings beyond a standard error, seed by seed",
        *[f"- {'; '.join(passing(c) for c in one['crossings']) or 'none'}" for one in each],
        "",
        "## The forecast of the loss at a size that was not measured",
        *[f"- off by {words(one['forecast']['off'])} points on average, a straight line over the "
          f"size by {words(one['forecast']['off_by_size'])}" for one in each],
        "",
        "## Four namings of the same image",
        f"The base keeps {100 * np.mean([one['named_base'] for one in each]):.1f}.",
        "",
        *table(gathered(each, "named"), "algorithm"),
        *table(gathered(each, "named_orders"), "order"),
        "## Sites with skewed classes: accuracy on all test images, %",
        *table(gathered(each, "sites"), "algorithm"),
    ]  # fmt: skip
    return text + "\n".join(lines)


def passing(crossing: list[Any]) -> str:
    behind, ahead, size, _ = crossing
    return f"{ahead} passes {behind} at {size:.1f}x"


def words(off: float | None) -> str:
    return "?" if off is None else f"{100 * off:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one seed, almost no training")
    parser.add_argument("--notes", help="a file of results, to go on after a stop")
    options = parser.parse_args()
    notes = Notes(options.notes)
    each = []
    for seed in SEEDS[:1] if options.smoke else SEEDS:
        each.append(notes.get(f"seed {seed}", lambda: seed_of(seed, options.smoke)))  # noqa: B023
        print(f"seed {seed} done", flush=True)
    publish("merge_digits", report(each, options.smoke), options.smoke)


if __name__ == "__main__":
    main()
