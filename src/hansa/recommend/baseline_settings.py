"""What a recommender is held against, as its file says it."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from hansa.engine.settings import Settings

Baseline = Literal["global_mean", "user_mean", "bias", "popularity", "central_mf", "isolated"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)
BASELINES_FILE = "baselines.json"
"""In a run's folder: the figures of each baseline by name."""


class CentralSettings(Settings):
    """Matrix factorization of all ratings in one place: what nobody here can do."""

    factors: int | None = Field(
        None, ge=1, description="length of a vector; none = as the run's model, else 10"
    )
    epochs: int | None = Field(
        None,
        ge=1,
        description="passes over all training ratings; none = 30, or as many as 300,000 steps take "
        "where there are few",
    )
    lr: float = Field(0.01, gt=0, description="learning rate")
    decay: float = Field(0.05, ge=0, description="L2 penalty of the factors")
