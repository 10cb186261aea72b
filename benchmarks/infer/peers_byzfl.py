"""ByzFL's aggregators, query by query as they take them, and number-wise ones end to end.

    python peers_byzfl.py QUERIES MEMBERS CLASSES F REPEATS

Prints CPU seconds by name as JSON. Only its aggregators are imported: the package's front wants
torchvision.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def aggregators() -> Any:
    """ByzFL's module of aggregators."""
    spec = importlib.util.find_spec("byzfl")
    if spec is None:
        raise SystemExit("byzfl is not installed here")
    front = types.ModuleType("byzfl")
    front.__path__ = list(spec.submodule_search_locations or [])
    sys.modules["byzfl"] = front
    return importlib.import_module("byzfl.aggregators")


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """The least CPU time of some calls, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times[1:])


def main() -> None:
    queries, members, classes, f, repeats = map(int, sys.argv[1:])
    torch.set_num_threads(1)
    byzfl = aggregators()
    rows = np.random.default_rng(0).dirichlet(np.full(classes, 0.3), (queries, members))
    rows = rows.astype(np.float32)
    rules = {
        "trimmed_mean": byzfl.TrMean(f),
        "median": byzfl.Median(),
        "geometric_median": byzfl.GeometricMedian(),
        "krum": byzfl.Krum(f),
    }
    figures: dict[str, dict[str, float]] = {}
    for name, rule in rules.items():
        figures[name] = {
            form: seconds(lambda rule=rule, sets=sets: [rule(one) for one in sets], repeats)
            for form, sets in (("torch", list(torch.from_numpy(rows))), ("numpy", list(rows)))
        }
        if name in ("trimmed_mean", "median"):
            across = np.ascontiguousarray(rows.transpose(1, 0, 2)).reshape(members, -1)
            for form, columns in (("torch", torch.from_numpy(across)), ("numpy", across)):
                figures[name][f"{form}, end to end"] = seconds(
                    lambda rule=rule, columns=columns: rule(columns), repeats
                )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
