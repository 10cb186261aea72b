"""Fewer bytes at the same accuracy: JWINS, its ablations, CHOCO-SGD, and what goes further.

    python benchmarks/decentralized/sharing.py            # 3 seeds, some 15 minutes
    python benchmarks/decentralized/sharing.py --smoke    # digits, a few rounds

32 nodes, two textbook shards each of CIFAR-10 at 16 x 16, MLP 768-64-10, one random 4-regular
graph, 5 local steps of batch 16 at rate 0.05, 240 rounds; mean node accuracy on 2,000 test images
after the exchange, mean of the last three evaluations. It needs CIFAR-10 (README on HANSA_DATA).
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

from hansa import run

GAMMA = {"name": "sparse", "index": "gamma"}  # as published: Elias gamma gaps, raw floats
HALF = {"name": "sparse", "values": {"name": "dense", "dtype": "float16"}}
TWENTY = {"cutoffs": [1.0, 0.1], "probabilities": [0.1, 0.9]}
TEN = {"cutoffs": [1.0, 0.05], "probabilities": [0.05, 0.95]}
SCHEMES: dict[str, list[dict[str, Any]]] = {
    "full sharing": [{"name": "dpsgd"}],
    "JWINS": [{"name": "jwins", "codec": GAMMA}],
    "JWINS without accumulation": [{"name": "jwins", "accumulation": False, "codec": GAMMA}],
    "JWINS without wavelet": [{"name": "jwins", "wavelet": None, "codec": GAMMA}],
    "JWINS, fixed cut-off .343": [{"name": "jwins", "cutoffs": [0.343], "codec": GAMMA}],
    "TopK .343": [{"name": "topk", "share": 0.343, "codec": GAMMA}],
    "random sampling .37": [{"name": "random_sampling", "share": 0.37}],
    "JWINS 20 %": [{"name": "jwins", **TWENTY, "codec": GAMMA}],
    "JWINS, fixed cut-off .19": [{"name": "jwins", "cutoffs": [0.19], "codec": GAMMA}],
    "CHOCO 20 %": [
        {"name": "choco", "share": 0.2, "gamma": gamma, "codec": GAMMA}
        for gamma in (0.3, 0.4, 0.5, 0.6)
    ],
    "random sampling .2": [{"name": "random_sampling", "share": 0.2}],
    "JWINS 10 %": [{"name": "jwins", **TEN, "codec": GAMMA}],
    "CHOCO 10 %": [
        {"name": "choco", "share": 0.1, "gamma": gamma, "codec": GAMMA} for gamma in (0.1, 0.2, 0.3)
    ],
    "random sampling .1": [{"name": "random_sampling", "share": 0.1}],
    "ours: JWINS, shortest index code": [{"name": "jwins"}],
    "ours: JWINS, float16 values": [{"name": "jwins", "codec": HALF}],
    "ours: JWINS 20 %, float16 values": [{"name": "jwins", **TWENTY, "codec": HALF}],
}


def measure(algorithm: dict[str, Any], seed: int, smoke: bool) -> tuple[float, float]:
    """(mean node accuracy in percent, megabytes sent by a node)."""
    settings = {
        "nodes": 32,
        "rounds": 240,
        "seed": seed,
        "data": CIFAR,
        "model": {"name": "mlp", "hidden": [64]},
        "topology": {"name": "regular", "degree": 4},
        "algorithm": algorithm,
        "train": {
            "local_steps": 5,
            "batch_size": 16,
            "optimizer": {"name": "sgd", "lr": 0.05},
            "strategy": "stacked",
        },
        "evaluate": {"every": 20, "average_model": False},
        "checkpoint": {"every": 0},
    }
    if smoke:
        settings |= {"rounds": 3, "data": DIGITS, "evaluate": {"every": 1}}
    with tempfile.TemporaryDirectory() as folder:
        done = run(settings, out=Path(folder) / "run", report=False)
        metrics = done.metrics()
        assert done.summary is not None
        sent = done.summary["bytes_sent"] / settings["nodes"] / 1e6
    return late_accuracy(metrics), sent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="digits, one seed, a few rounds")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    seeds = 1 if arguments.smoke else arguments.seeds
    accuracy: dict[str, np.ndarray] = {}
    megabytes: dict[str, float] = {}
    rows = []
    for name, variants in SCHEMES.items():
        tried = []
        for algorithm in variants[:1] if arguments.smoke else variants:
            found = np.array([measure(algorithm, seed, arguments.smoke) for seed in range(seeds)])
            tried.append((found[:, 0].mean(), algorithm, found))
            print(f"{name} {algorithm}: {found.mean(0).round(1).tolist()}", flush=True)
        _, best, found = max(tried, key=lambda item: item[0])  # CHOCO's gamma: the best of a grid
        accuracy[name], megabytes[name] = found[:, 0], float(found[:, 1].mean())
        label = f"{name}, gamma {best['gamma']}" if len(tried) > 1 else name
        share = megabytes[name] / megabytes["full sharing"]
        rows.append(
            [
                label,
                f"{megabytes[name]:.1f}",
                f"{share:.1%}",
                f"{found[:, 0].mean():.1f}",
                " / ".join(f"{a:.1f}" for a in found[:, 0]),
            ]
        )
    text = markdown(
        "Sharing schemes: mean node accuracy, %",
        "python benchmarks/decentralized/sharing.py",
        ["scheme", "MB a node", "of full", "accuracy", "by seed"],
        rows,
    )
    text += "\n" + "\n".join(f"- {line}" for line in verdicts(accuracy, megabytes)) + "\n"
    publish("sharing", text, arguments.smoke)


def verdicts(accuracy: dict[str, np.ndarray], megabytes: dict[str, float]) -> list[str]:
    """The relations that are required, each with what was found."""

    def mean(name: str) -> float:
        return float(accuracy[name].mean())

    def said(text: str, holds: bool, found: str) -> str:
        return f"{text}: {'yes' if holds else 'NO'} ({found})"

    jwins, full = mean("JWINS"), mean("full sharing")
    share = megabytes["JWINS"] / megabytes["full sharing"]
    lines = [
        said("JWINS within 1.5 points of full", abs(jwins - full) <= 1.5, f"{jwins - full:+.1f}"),
        said("with at most 37.5 % of its bytes", share <= 0.375, f"{share:.1%}"),
    ]
    for other, points in (("random sampling .37", 5), ("JWINS without wavelet", 2)):
        gap = jwins - mean(other)
        lines.append(said(f"JWINS ≥ {other} + {points}", gap >= points, f"{gap:+.1f}"))
    gap = mean("JWINS 20 %") - mean("CHOCO 20 %")
    lines.append(said("JWINS 20 % ≥ CHOCO 20 % tuned + 2", gap >= 2, f"{gap:+.1f}"))
    gap = mean("JWINS 10 %") - mean("CHOCO 20 %")
    share = megabytes["JWINS 10 %"] / megabytes["CHOCO 20 %"]
    text = "JWINS 10 % about CHOCO 20 % (within 2 points or better) at half the bytes"
    lines.append(said(text, gap >= -2 and share <= 0.5, f"{gap:+.1f}, {share:.0%} of the bytes"))
    for fixed, drawn in (
        ("JWINS, fixed cut-off .343", "JWINS"),
        ("JWINS, fixed cut-off .19", "JWINS 20 %"),
    ):
        gap = mean(drawn) - mean(fixed)
        text = f"the paper's claim that a randomized cut-off helps ({drawn} against {fixed})"
        lines.append(said(text, gap > 0, f"{gap:+.1f}"))
    for ours in (name for name in accuracy if name.startswith("ours")):
        base = "JWINS 20 %" if "20" in ours else "JWINS"
        factor = megabytes[base] / megabytes[ours]
        gap = accuracy[ours] - accuracy[base]
        found = f"{factor:.2f} times fewer, {', '.join(f'{g:+.1f}' for g in gap)} by seed"
        text = f"{ours}: ≥ 1.3 times fewer bytes than {base} at no less accuracy (mean - 0.3)"
        lines.append(said(text, factor >= 1.3 and gap.mean() >= -0.3, found))
    return lines


if __name__ == "__main__":
    main()
