"""Accuracy against epsilon on FEMNIST, whose clients are writers: noise in the gradients.

    HANSA_DATA=... python benchmarks/privacy/private_femnist.py            # about 5 minutes
    python benchmarks/privacy/private_femnist.py --smoke                   # digits, a round

Every writer is a node. The copy at hand decides how many there are and what they wrote: the table
says so. Logistic regression, 30 rounds of 2 steps, delta 1e-4; a learning rate and a clip for every
row, of two each, found on validation examples with a seed of its own. Whole writers are so few here
that no server can hide one of them.
"""

from __future__ import annotations

import sys
from typing import Any

from private_tables import Case, main

from hansa.base.streams import Streams
from hansa.data import DataSource

SMOKE = "--smoke" in sys.argv
RATES, CLIPS = (0.02, 0.1), (0.3, 1.0)
EPSILONS = (None, 8.0, 2.0)
DATA: dict[str, Any] = {"name": "femnist", "partition": "natural", "validation": 0.2}
DATA["normalize"] = "standardize"  # by figures of all images, which are taken to be known
if SMOKE:
    DATA = {"name": "digits", "validation": 0.2}


def writers() -> tuple[int, str]:
    """How many nodes there are, and a sentence on their examples."""
    if SMOKE:
        return 4, ""
    source = DataSource.resolve(DATA)
    dataset = source.load(Streams(1))
    groups = dataset.train.groups
    assert groups is not None
    count = len(set(groups.tolist()))
    said = (
        f"{count} writers, {len(dataset.train)} training images in {dataset.spec.classes} classes"
    )
    return count, f"{said}, {len(dataset.test)} test images."


def settings(nodes: int, algorithm: str) -> dict[str, Any]:
    """A run in which every writer is a node."""
    return {
        "nodes": nodes,
        "rounds": 30,
        "data": DATA,
        "model": "logistic",
        "topology": {"name": "regular", "degree": 3 if SMOKE else 4},
        "algorithm": algorithm,
        "train": {"local_steps": 2, "batch_size": 32, "drop_last": False},
    }


if __name__ == "__main__":
    nodes, said = writers()
    example = {"name": "example", "delta": 1e-4}
    peers = settings(nodes, "dpsgd")
    cases = [
        Case("nothing, peers", None, peers, (None,), RATES, CLIPS),
        Case("images, peers", example, peers, EPSILONS, RATES, CLIPS),
    ]
    main(
        "privacy_femnist",
        "Accuracy against epsilon on FEMNIST",
        "python benchmarks/privacy/private_femnist.py",
        cases,
        f"{said} `worst node` is the lowest of all nodes and seeds; a server has one model.",
    )
