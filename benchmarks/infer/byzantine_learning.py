"""Byzantine-robust learning: D-PSGD and FedAvg on digits with 4 attackers among 20 nodes.

    python benchmarks/infer/byzantine_learning.py            # 3 seeds, ~20 CPU minutes
    python benchmarks/infer/byzantine_learning.py --smoke    # one seed, a few rounds, few rules

Every rule against every attack, on an even and on a skewed split (Dirichlet 0.5). Peers are a
random 10-regular graph, so that a node hears 11 models with its own; a server hears all 20. Every
rule that takes f gets f = 4. MLP 64-32-10, 5 steps of batch 16 at lr 0.1, 30 rounds; the seed
draws the attackers. ``--notes FILE`` keeps what is done, so that a stopped benchmark can go on.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Notes, markdown, publish

from hansa.experiment import run

NODES, BAD, ROUNDS = 20, 4, 30
SYSTEMS: dict[str, dict[str, Any]] = {
    "D-PSGD": {"algorithm": {"name": "dpsgd"}, "topology": {"name": "regular", "degree": 10}},
    "FedAvg": {"algorithm": {"name": "fedavg", "weighting": "uniform", "sampled": NODES}},
}
SPLITS: dict[str, dict[str, Any]] = {
    "even": {"name": "iid"},
    "skewed": {"name": "dirichlet", "alpha": 0.5},
}
TRIMMED = {"name": "trimmed_mean", "f": BAD}
RULES: dict[str, Any] = {
    "mean": "mean",
    "median": "median",
    "trimmed_mean": TRIMMED,
    "geometric_median": "geometric_median",
    "krum": {"name": "krum", "f": BAD},
    "multi_krum": {"name": "multi_krum", "f": BAD},
    "nnm, trimmed_mean": {"name": "nnm", "f": BAD, "then": TRIMMED},
    "centered_clipping": {"name": "centered_clipping", "radius": 1.0},
}
ATTACKS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "sign_flip × 8": {"name": "sign_flip", "scale": 8.0},
    "gaussian": {"name": "gaussian", "scale": 1.0},
    "inner_product × 8": {"name": "inner_product", "scale": 8.0},
    "ALIE, z = 1.5": {"name": "a_little_is_enough", "z": 1.5},
    "mimic": {"name": "mimic"},
}


def honest_accuracy(settings: dict[str, Any]) -> list[float]:
    """(mean, worst) accuracy in percent of the models measured after the last round."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = run(settings, out=Path(folder) / "run", report=False).metrics()
    kept = (pl.col("name") == "accuracy") & pl.col("node").is_not_null()
    rows = metrics.filter(kept & (pl.col("round") == settings["rounds"]))
    values = 100 * rows["value"].drop_nulls().drop_nans().to_numpy()
    return [float(values.mean()), float(values.min())]


def one(
    system: str, split: str, rule: str, attack: str, seed: int, rounds: int = ROUNDS
) -> list[float]:
    """One run."""
    chosen = SYSTEMS[system]
    settings = {
        "seed": seed,
        "nodes": NODES,
        "rounds": rounds,
        "data": {"name": "digits", "partition": SPLITS[split]},
        "model": {"name": "mlp", "hidden": [32]},
        **chosen,
        "algorithm": {**chosen["algorithm"], "aggregator": RULES[rule]},
        "train": {"local_steps": 5, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.1}},
        "evaluate": {"every": rounds, "dense_start": False},
        "checkpoint": {"every": 0},
    }
    if forging := ATTACKS[attack]:
        settings["attack"] = {**forging, "share": BAD / NODES}
    return honest_accuracy(settings)


def table(
    notes: Notes, system: str, split: str, rules: list[str], attacks: list[str], seeds: int,
    rounds: int,
) -> tuple[list[list[str]], dict[tuple[str, str], np.ndarray]]:  # fmt: skip
    """Rows of the table, and the figures [seeds, 2] by rule and attack."""
    figures = {}
    for rule in rules:
        for attack in attacks:
            each = []
            for seed in range(1, seeds + 1):
                name = f"{system}/{split}/{rule}/{attack}/{seed}"
                each.append(
                    notes.get(
                        name,
                        lambda rule=rule, attack=attack, seed=seed: one(
                            system, split, rule, attack, seed, rounds
                        ),
                    )
                )
            figures[rule, attack] = np.array(each)
        said = [f"{figures[rule, a][:, 0].mean():.1f}" for a in attacks]
        print(f"{system}, {split}, {rule}: {' '.join(said)}", flush=True)
    rows = [[rule, *(_cell(figures[rule, a]) for a in attacks)] for rule in rules]
    return rows, figures


def _cell(values: np.ndarray) -> str:
    return f"{values[:, 0].mean():.1f} / {values[:, 1].min():.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one seed, a few rounds, two rules")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--notes", help="a file that keeps what is done")
    arguments = parser.parse_args()
    smoke = arguments.smoke
    rules = ["mean", "nnm, trimmed_mean"] if smoke else list(RULES)
    attacks = ["none", "inner_product × 8"] if smoke else list(ATTACKS)
    seeds, rounds = (1, 2) if smoke else (arguments.seeds, ROUNDS)
    notes = Notes(arguments.notes)
    parts, verdicts = [], []
    for system in SYSTEMS:
        for split in ["even"] if smoke else list(SPLITS):
            rows, figures = table(notes, system, split, rules, attacks, seeds, rounds)
            title = f"{system} on digits ({split}), {BAD} of {NODES} nodes attack: accuracy, %"
            text = markdown(
                title,
                "python benchmarks/infer/byzantine_learning.py",
                ["rule", *attacks],
                rows,
            )
            parts.append(text if not parts else _without_heading(text))
            verdicts += _verdicts(f"{system}, {split}", rules, attacks, figures)
    text = "\n".join(parts)
    text += (
        f"\nEach cell: mean over honest nodes and {seeds} seeds / the worst honest node of all "
        "seeds (a server has one model). Attackers see their own rows only. The mean's first "
        "column is what there is to keep.\n\n" + "\n".join(f"- {v}" for v in verdicts) + "\n"
    )
    publish("byzantine_learning", text, smoke)


def _without_heading(text: str) -> str:
    """A further table: its title as a smaller one, the command and machine left out."""
    title, rows = text.partition("\n")[0], text[text.index("\n| ") :]
    return f"#{title}\n{rows}"


def _verdicts(
    where: str, rules: list[str], attacks: list[str], figures: dict[tuple[str, str], np.ndarray]
) -> list[str]:
    """What the mean loses, and which rules hold, by numbers."""
    mean = {key: value[:, 0].mean() for key, value in figures.items()}
    clean = mean["mean", "none"]
    worst = {rule: min(mean[rule, a] for a in attacks if a != "none") for rule in rules}
    held = [f"{rule} {clean - worst[rule]:.1f}" for rule in rules if rule != "mean"]
    return [
        f"{where}: without attack the mean has {clean:.1f}; at its worst attack it loses "
        f"{clean - worst['mean']:.1f} points; the others at theirs: {', '.join(held)}"
    ]


if __name__ == "__main__":
    main()
