"""Seconds of FENS's phase 2 on cached scores: 20 clients, 500 rounds, the sizes of CIFAR-10.

Made-up scores of 20 members on 10 classes, 200 proxies a client; the neural rule has 8,450
parameters (k = 40), batches of 128. The promise is less than 10 seconds on a CPU: CPU time is that
of all threads, and the wall's depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import cpu_seconds, markdown, publish

from hansa.combine.ensemble import AggregateSettings, Scores, fit
from hansa.ensemble import LearnedRule, Neural, Panel, PerClass


def scores(clients: int = 20, classes: int = 10, proxies: int = 200) -> Scores:
    """Scores of nobody in particular."""
    rng = torch.Generator().manual_seed(1)
    n = clients * proxies
    return Scores(
        Panel(clients, classes, torch.ones(clients, classes), (3, 32, 32)),
        torch.randn(clients, n, classes, generator=rng),
        torch.randint(classes, (n,), generator=rng),
        list(np.arange(n).reshape(clients, proxies)),
        None,
        torch.randn(clients, 1000, classes, generator=rng),
        torch.randint(classes, (1000,), generator=rng),
        None,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="few rounds")
    smoke = parser.parse_args().smoke
    given, rows = scores(), []
    settings = AggregateSettings(rounds=3 if smoke else 500)
    rules: list[LearnedRule] = [PerClass(), Neural()]
    for rule in rules:

        def work(rule: LearnedRule = rule) -> None:
            with tempfile.TemporaryDirectory() as folder:
                fit(rule, given, settings, 1, Path(folder) / "run")

        began = time.perf_counter()
        busy = cpu_seconds(work)
        rows.append([rule.name, f"{busy:.1f}", f"{time.perf_counter() - began:.1f}"])
    text = markdown(
        "Phase 2 of 20 clients, 500 rounds: seconds",
        "python benchmarks/combine/ensemble_speed.py",
        ["rule", "CPU seconds", "wall"],
        rows,
    )
    publish("ensemble_speed", text, smoke)


if __name__ == "__main__":
    main()
