"""REX on ratings of films by 610 people: bands of the reference's figures, and what beats them."""

from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch

from hansa.codec import PairGaps, Sparse, SparseRows
from hansa.experiment import run
from hansa.recommend import outgoing
from hansa.recommend.recommend_file import RecommendFile

REFERENCE: dict[str, Any] = {
    "model": {
        "name": "matrix_factorization", "factors": 10, "mean": "none", "unit": 0.5,
        "init": "one_vector",
    },
    "algorithm": {"name": "rex", "steps": 300, "ratings": 300, "item_rate": 1.0},
    "train": {"optimizer": {"name": "sgd", "lr": 0.005, "weight_decay": 0.1}},
}  # fmt: skip
OWN_MEAN, CENTRAL = 0.94, 0.868
"""RMSE of each user's own mean, and of matrix factorization with all ratings in one place."""


def error(settings: dict[str, Any], rounds: int, folder: Path) -> float:
    """Mean over 50 nodes of each one's RMSE on its own test ratings, stars, after training."""
    rest = {"baselines": [], "checkpoint": {"every": 0}, "rounds": rounds, "nodes": 50}
    when = {"every": rounds, "dense_start": False, "when": "after_training"}
    chosen = {"data": {"name": "movielens"}, "evaluate": when, **rest, **settings}
    metrics = run(RecommendFile.parse(chosen), folder / "run", report=False).metrics()
    last = metrics.filter((polars.col("name") == "rmse") & (polars.col("round") == rounds))
    return float(last.filter(polars.col("node").is_not_null())["value"].mean())  # type: ignore[arg-type]


@pytest.mark.data
def test_reference_settings_stay_within_the_reference_s_band(tmp_path: Path) -> None:
    assert 0.87 < error(REFERENCE, 50, tmp_path) <= 1.10


@pytest.mark.data
@pytest.mark.parametrize("share", ["data", "model"])
def test_own_settings_beat_who_is_alone(share: str, tmp_path: Path) -> None:
    """In a quarter of the rounds after which both are near all ratings in one place."""
    found = error({"algorithm": {"name": "rex", "share": share}}, 50, tmp_path)
    assert CENTRAL < found < OWN_MEAN - 0.02


def test_a_whole_model_is_hundreds_of_messages_of_ratings() -> None:
    """float32 rows of 610 users and 9,724 items beside 300 ratings, each in its shortest code."""
    groups = 610 + 9724
    whole = SparseRows.of(torch.zeros(1, groups * 11), [np.arange(groups)], 11)
    drawn = np.random.default_rng(0).choice(610 * 9724, 300, replace=False)
    pairs = np.stack(np.divmod(drawn, 9724), axis=1)
    stars = np.random.default_rng(1).integers(1, 11, 300).astype(np.float32) / 2
    ratings = PairGaps().size(outgoing.table(pairs, stars))[0]
    assert Sparse().size(whole)[0] / ratings >= 500
    assert ratings / 300 < 7
