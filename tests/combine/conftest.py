"""Small ensembles on digits, and scores made up for rules."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hansa.combine.ensemble import (
    AggregateSettings,
    EnsembleSettings,
    Judged,
    Place,
    Prepared,
    Result,
    Scores,
    combine,
    judge,
    out_of_fold,
    prepare,
)
from hansa.ensemble import Panel, Rule

QUICK: dict[str, Any] = {
    "seed": 7,
    "clients": 4,
    "data": {
        "name": "digits",
        "train_samples": 400,
        "partition": {"name": "dirichlet", "alpha": 0.3, "min_samples": 20},
    },
    "models": [{"name": "mlp", "hidden": [16]}],
    "local": {"epochs": 8, "optimizer": {"name": "sgd", "lr": 0.1}},
    "rules": ["average", "label_weighted", "voting", "per_class"],
    "aggregate": {"rounds": 20, "every": 20},
}


def quick(**changes: Any) -> EnsembleSettings:
    return EnsembleSettings.model_validate(QUICK | changes)


def ran(path: Path, **changes: Any) -> tuple[Prepared, Result]:
    prepared = prepare(quick(**changes))
    return prepared, combine(prepared, path, lambda text: None)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Prepared, Result, Path]:
    """One ensemble that several tests look at."""
    path = tmp_path_factory.mktemp("once")
    return *ran(path), path


def made_up(members: int = 3, sizes: tuple[int, ...] = (9, 20, 13), classes: int = 4) -> Scores:
    rng = torch.Generator().manual_seed(5)
    n = sum(sizes)
    cuts = np.cumsum([0, *sizes])
    return Scores(
        Panel(members, classes, torch.ones(members, classes), (2,)),
        torch.randn(members, n, classes, generator=rng),
        torch.randint(classes, (n,), generator=rng),
        [np.arange(a, b) for a, b in itertools.pairwise(cuts)],
        None,
        torch.randn(members, 6, classes, generator=rng),
        torch.randint(classes, (6,), generator=rng),
        None,
    )


def judged_by_clients(
    rules: list[Rule],
    scores: Scores,
    settings: AggregateSettings,
    path: Path,
    f: int | None = None,
    place: Place | None = None,
) -> Judged:
    """Rules as clients judge them, with seed 1."""
    named = {rule.name: rule for rule in rules}
    without = {n: out_of_fold(r, scores, settings, 1) for n, r in named.items() if r.learned}
    return judge(named, without, scores, settings.folds, 1, path, f, place or Place())


def sums(names: tuple[str, ...], hits: torch.Tensor, robust: torch.Tensor | None = None) -> Judged:
    """What is told of hits, bool [R, N]."""
    right, worst = ((x.long() @ x.long().T).numpy() if x is not None else None
                    for x in (hits, robust))  # fmt: skip
    assert right is not None
    return Judged(names, hits.shape[1], right, worst, dict.fromkeys(names, 0))
