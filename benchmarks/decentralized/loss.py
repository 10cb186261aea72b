"""What lost messages cost D-PSGD and JWINS: accuracy under 0, 10 and 30 % loss, by policy.

    python benchmarks/decentralized/loss.py            # about 5 minutes
    python benchmarks/decentralized/loss.py --smoke    # one seed, a few rounds

16 nodes on a random 4-regular graph, two textbook shards of the digits each, an MLP 64-32-10, 60
rounds of 5 steps. Accuracy on the test digits after the last round, in percent: the mean of the
nodes and the worst of them, each as mean and deviation over the seeds. With ``wait`` all messages
come, later, so that its models are those without loss; its price is modelled time.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import DIGITS, Notes, markdown, options, publish

from hansa.experiment import run

CASES = [
    ("dpsgd", 0.0, "self"),
    *(("dpsgd", loss, policy) for loss in (0.1, 0.3) for policy in ("self", "renormalise", "skip")),
    ("dpsgd", 0.3, "wait"),
    ("jwins", 0.0, "self"),
    *(("jwins", loss, "self") for loss in (0.1, 0.3)),
]


def measured(name: str, loss: float, policy: str, seed: int, smoke: bool) -> dict[str, float]:
    """Figures of one run."""
    settings: dict[str, Any] = {
        "seed": seed,
        "nodes": 16,
        "rounds": 3 if smoke else 60,
        "data": DIGITS,
        "model": {"name": "mlp", "hidden": [32]},
        "topology": {"name": "regular", "degree": 4},
        "algorithm": name,
        "train": {"local_steps": 5, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}},
        "evaluate": {"every": 3 if smoke else 60, "dense_start": False},
        "faults": {"loss": loss, "on_missing": policy},
    }
    with tempfile.TemporaryDirectory() as folder:
        table = run(settings, out=Path(folder) / "run", report=False).metrics()
    last = table.filter(
        (polars.col("round") == polars.col("round").max()) & polars.col("node").is_not_null()
    )
    figures = {name: of["value"].to_numpy() for (name,), of in last.group_by("name")}
    return {
        "mean": 100 * float(figures["accuracy"].mean()),
        "worst": 100 * float(figures["accuracy"].min()),
        "seconds": float(figures["modelled_time"].max()),
        "missing": float(figures["messages_missing"].sum() / figures["messages_sent"].sum()),
    }


def main() -> None:
    arguments = options(__doc__, "one seed, a few rounds", seeds=5).parse_args()
    smoke, notes = arguments.smoke, Notes(arguments.notes)
    rows = []
    for name, loss, policy in CASES:
        seeds = range(1 if smoke else arguments.seeds)
        found = [
            notes.get(
                f"{name}, {loss}, {policy}, {seed}",
                partial(measured, name, loss, policy, seed, smoke),
            )
            for seed in seeds
        ]
        row = [name, f"{loss:.0%}", policy if loss else ""]
        for figure in ("mean", "worst"):
            values = np.array([one[figure] for one in found])
            spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
            row.append(f"{values.mean():.1f}{spread}")
        row.append(f"{np.mean([one['seconds'] for one in found]):.1f}")
        row.append(f"{100 * np.mean([one['missing'] for one in found]):.1f}")
        rows.append(row)
        print(" | ".join(row), flush=True)
    text = markdown(
        "Lost messages: accuracy after 60 rounds, %",
        "python benchmarks/decentralized/loss.py",
        ["algorithm", "loss", "on_missing", "mean node", "worst node", "modelled s", "missing, %"],
        rows,
    )
    publish("loss", text, smoke)


if __name__ == "__main__":
    main()
