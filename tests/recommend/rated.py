"""Small jobs on drawn ratings: people deal their own, some of which are held back."""

from typing import Any

import numpy as np
import torch

from hansa.base.spec import DataSpec
from hansa.data.dataset import Dataset, Split
from hansa.engine import Job
from hansa.experiment import RunFile
from hansa.experiment.prepare import completed, framed

USERS, ITEMS = 24, 30


def ratings(seed: int = 0, share: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """(pairs int64 [m, 2] by user, stars float32 [m]) of taste of rank one."""
    random = np.random.default_rng(seed)
    pairs = np.argwhere(random.random((USERS, ITEMS)) < share)
    taste, kind = random.standard_normal(USERS), random.standard_normal(ITEMS)
    exact = 3 + 0.8 * taste[pairs[:, 0]] * kind[pairs[:, 1]]
    stars = np.clip(np.rint(2 * (exact + 0.2 * random.standard_normal(len(pairs)))) / 2, 0.5, 5)
    return pairs.astype(np.int64), stars.astype(np.float32)


def rated_job(
    nodes: int = 6,
    rounds: int = 4,
    model: Any = None,
    train: Any = None,
    topology: Any = None,
    seed: int = 1,
    faults: Any = None,
    clock: Any = None,
    **rex: Any,
) -> Job:
    """A job of ``rex``; users are dealt in adjacent lots, every third rating is held back."""
    chosen: dict[str, Any] = {
        "seed": seed,
        "nodes": nodes,
        "rounds": rounds,
        "data": {"name": "digits"},  # in whose place the ratings come
        "model": model or {"name": "matrix_factorization", "factors": 3, "start": 3.0},
        "algorithm": {"name": "rex", "ratings": 12, "steps": 20} | rex,
        "train": train or {"optimizer": {"name": "sgd", "lr": 0.05, "weight_decay": 0.05}},
        "topology": topology or {"name": "regular", "degree": 3},
        "evaluate": {"every": 2, "dense_start": False},
        "checkpoint": {"every": 0},
    }
    if faults:
        chosen["faults"] = faults
    if clock:
        chosen["clock"] = clock
    pairs, stars = ratings()
    owner = pairs[:, 0] * nodes // USERS
    test = np.arange(len(pairs)) % 3 == 0
    parts = [np.flatnonzero((owner == k) & ~test) for k in range(nodes)]
    held = [np.flatnonzero((owner == k) & test) for k in range(nodes)]
    split = Split(torch.from_numpy(pairs), torch.from_numpy(stars))
    spec = DataSpec("pairs", (2,), 1, "regression", (USERS, ITEMS), (0.5, 5.0))
    dataset = Dataset("rated", spec, split, None, split.take(np.arange(4)))
    return completed(framed(RunFile.parse(chosen)), dataset, parts, held)
