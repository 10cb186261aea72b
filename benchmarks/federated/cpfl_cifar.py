"""CPFL on CIFAR-10, scaled down: the direction of the paper's trade of accuracy for time.

    python benchmarks/federated/cpfl_cifar.py            # 2 seeds, ~5 minutes
    python benchmarks/federated/cpfl_cifar.py --smoke    # digits, a few rounds

64 clients (Dirichlet 0.1) on 15,000 images of 16 x 16, 5,000 more without labels to distil on, MLP
768-64-10, 5 steps of batch 20 at rate 0.05. In a round either at most 16 clients of each cohort
take part (as in the published scripts, where it is 50 of 200: four cohorts then do four times as
much in a round as one), or a quarter of each cohort (the same work, however many cohorts). Devices
are ``fedscale_like``. A cohort stops when its clients' validation loss, the mean of 20 rounds, has
not fallen by 0.002 in 40 rounds. It needs CIFAR-10 (see the README on HANSA_DATA).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import CIFAR, DIGITS, Notes, markdown, publish

sys.path.insert(0, str(Path(__file__).parent))
from cpfl_digits import FIGURES, TRAIN, figures, row

from hansa.ensemble import Distillation

CLIENTS, SAMPLED, CAP = 64, 16, 800
COHORTS = (1, 2, 4, 8, 16, 64)
WAYS = ("at most 16", "a quarter")


def settings(seed: int, cohorts: int, way: str, rounds: int, smoke: bool) -> dict[str, Any]:
    """A run without a merge, saved at its end."""
    sampled = SAMPLED if way == WAYS[0] else max(1, SAMPLED // cohorts)
    shared = {
        "partition": {"name": "dirichlet", "alpha": 0.1, "min_samples": 10},
        "public": 0.25,
    }
    return {
        "seed": seed,
        "nodes": CLIENTS,
        "rounds": rounds,
        "data": DIGITS | shared if smoke else CIFAR | shared | {"train_samples": 20_000},
        "model": {"name": "mlp", "hidden": [64]},
        "algorithm": {
            "name": "cpfl",
            "cohorts": cohorts,
            "sampled": sampled,
            "merge": "none",
            "stop": {"window": 20, "patience": 40, "min_delta": 0.002},
        },
        "train": TRAIN,
        "evaluate": {"every": rounds, "local_validation": 0.1},
        "checkpoint": {"every": rounds},
        "clock": {"name": "devices", "profiles": "fedscale_like"},
    }


def directions(found: dict[str, dict[int, dict[str, np.ndarray]]]) -> list[str]:
    """What four cohorts save and lose, beside what the paper reports."""
    lines = []
    for way, by_cohorts in found.items():
        one, four = ({name: v.mean() for name, v in by_cohorts[n].items()} for n in (1, 4))
        time, work, sent = (one[name] / four[name] for name in ("hours", "cpu", "mb"))
        lost = one["cohort"] - four["labels"]
        checks = [
            ("less time, 1.9x in the paper", time, time > 1),
            ("fewer device hours, 1.3x in the paper", work, work > 1),
            ("fewer bytes, 1.3x in the paper", sent, sent > 1),
            ("points lost when distilled by labels, minimal in the paper", lost, lost <= 2),
        ]
        lines += [
            f"{way}, 4 cohorts against 1: {what} ({value:.3g}): {'yes' if ok else 'NO'}"
            for what, value, ok in checks
        ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="digits, a few rounds")
    parser.add_argument("--notes", help="a file for what is done, to go on from if stopped")
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    smoke, notes = arguments.smoke, Notes(arguments.notes)
    seeds, rounds = (1, 2) if smoke else (arguments.seeds, CAP)
    cohorts = (1, 4) if smoke else COHORTS
    distillation = Distillation(epochs=2 if smoke else 100, batch_size=512)

    def one(way: str, n: int, seed: int) -> dict[str, float]:
        name = f"{way}, {n} cohorts, seed {seed}"
        chosen = settings(seed, n, way, rounds, smoke)
        result = notes.get(name, lambda: figures(chosen, distillation))
        print(name, {k: round(v, 1) for k, v in result.items()}, flush=True)
        return result

    every = [(way, n) for way in WAYS for n in cohorts]
    runs: dict[tuple[str, int], list[dict[str, float]]] = {key: [] for key in every}
    for seed in range(1, seeds + 1):  # seed by seed: what is there when stopped is a whole table
        for way, n in every:
            runs[way, n].append(one(way, n, seed))
    found: dict[str, dict[int, dict[str, np.ndarray]]] = {way: {} for way in WAYS}
    for way, n in every:
        found[way][n] = {f: np.array([each[f] for each in runs[way, n]]) for f in FIGURES}
    header = ["clients a round", "cohorts", "time, h", "device time, h", "MB", "one cohort, %"]
    header += ["distilled by labels", "distilled uniformly", "averaged", "rounds"]
    text = markdown(
        "CPFL on CIFAR-10 at 16 x 16: cohorts, what they cost, and test accuracy",
        "python benchmarks/federated/cpfl_cifar.py",
        header,
        [[way, *row(n, found[way][n], "")[:-1]] for way, n in every],
    )
    text += (
        f"\nMean and standard deviation of {seeds} seeds. Time is modelled, until the last cohort "
        f"has stopped (rounds: of that cohort, at most {CAP}); device time is the sum over "
        "clients; of one cohort: the mean over cohorts. Clients a round are those of each cohort. "
        "This is a size that two cores carry: the paper has 200 clients, images of 32 x 32, a "
        "convolutional network and 105,000 public images of another data set.\n\n"
    )
    if not smoke:
        text += "\n".join(f"- {line}" for line in directions(found)) + "\n"
    publish("cpfl_cifar", text, smoke)


if __name__ == "__main__":
    main()
