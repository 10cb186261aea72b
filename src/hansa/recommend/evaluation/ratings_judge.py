"""How a run's recommendations are judged, on the ratings that their owners keep for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.base.spec import DataSpec
from hansa.data.dataset import Dataset
from hansa.engine.own_judge import OwnJudge, Tallies, Tally
from hansa.recommend.evaluation.own_figures import RANKED, UNIT, Measuring, Rate, Score, tally
from hansa.recommend.evaluation.ranking import Discount

if TYPE_CHECKING:
    from torch import nn


@register("ratings")
class RatingsJudge(OwnJudge):
    """Errors of predicted stars, and full rankings of all items, on each node's own test ratings.

    Candidates are all items but those that the user rated for training; ties are in the order of
    item numbers. Cold users and items are groups with figures of their own, and count in all
    others.
    """

    k: int = Field(10, ge=0, description="length of the lists that are measured; 0 = none are")
    relevant_from: float | None = Field(
        None, description="stars from which a test item is relevant; none = every test item is"
    )
    gain: Literal["binary", "stars"] = Field(
        "binary", description="what a relevant item is worth in NDCG: 1, or its stars"
    )
    discount: Discount = Field(
        "rank_plus_one",
        description="rank_plus_one: 1 / log2(rank + 1); rank: 1 / log2(rank), 1 at the first two",
    )
    sampled: int | None = Field(
        None,
        ge=1,
        description="also rank each test item among so many random others alone: "
        "ndcg@10_sampled99; none = do not",
    )
    clip: bool = Field(
        False, description="move predictions into the scale before they are measured"
    )

    def check(self, spec: DataSpec) -> None:
        if spec.kind != "pairs" or spec.task != "regression":
            raise ConfigError(
                "name",
                "ratings",
                f"measures ratings of pairs of user and item, and these data are {spec.kind} data",
                "data: movielens, ratings or synthetic_ratings",
            )
        if self.gain == "stars" and spec.scale and spec.scale[0] <= 0:
            problem = f"ratings of {spec.scale[0]:g} would be worth nothing or less"
            raise ConfigError("gain", self.gain, problem, "binary")
        if self.relevant_from is not None and spec.scale and self.relevant_from > spec.scale[1]:
            problem = f"no rating is so high: the scale ends at {spec.scale[1]:g}"
            raise ConfigError("relevant_from", self.relevant_from, problem, "less")

    def tally(
        self, module: nn.Module, dataset: Dataset, trained: np.ndarray, held: np.ndarray
    ) -> Tally:
        def rate(pairs: np.ndarray) -> np.ndarray:
            return module(torch.from_numpy(pairs)).reshape(-1).numpy()

        def score(users: np.ndarray) -> np.ndarray:
            return scores_of(module, torch.from_numpy(users), dataset.spec.vocabulary[1]).numpy()

        return self.tally_of(rate, score, dataset, trained, held)

    def tally_of(
        self,
        rate: Rate,
        score: Score | None,
        dataset: Dataset,
        trained: np.ndarray,
        held: np.ndarray,
    ) -> Tally:
        """As :meth:`tally`, of whatever predicts ratings and ranks items."""
        pairs, stars = dataset.train.inputs.numpy(), dataset.train.targets.numpy()
        how = Measuring(
            self.k,
            self.relevant_from,
            self.gain == "stars",
            self.discount,
            self.sampled,
            dataset.spec.scale if self.clip else (),
        )
        items = dataset.spec.vocabulary[1]
        return tally(rate, score, pairs[trained], pairs[held], stars[held], items, how)

    def by_node(self, tallies: Tallies) -> dict[str, np.ndarray]:
        sums = tallies.sums
        with np.errstate(all="ignore"):  # of models that diverged
            return {
                "rmse": np.sqrt(sums["squares"] / sums["ratings"]),
                "mae": sums["sizes"] / sums["ratings"],
            }

    def figures(self, tallies: Tallies) -> dict[str, float]:
        there = ~np.isnan(tallies.sums["ratings"])
        sums = {name: float(values[there].sum()) for name, values in tallies.sums.items()}
        figures = {
            "rmse_pooled": _root(sums["squares"], sums["ratings"]),
            "mae_pooled": sums["sizes"] / sums["ratings"],
            "rmse_per_user": sums["user_rmse"] / sums["users"],
            "mae_per_user": sums["user_mae"] / sums["users"],
            "test_ratings": sums["ratings"],
            "test_users": sums["users"],
        }
        figures |= self._cold(sums, tallies.counts)
        if ranked := sums.get("ranked_users"):
            figures |= {f"{name}@{self.k}": sums[name] / ranked for name in RANKED}
            figures |= self._lists(sums, tallies.counts)
            if self.sampled:
                for name in ("ndcg", "hr"):
                    value = sums[f"sampled_{name}"] / ranked
                    figures[f"{name}@{self.k}_sampled{self.sampled}"] = value
        return figures

    def better(self, name: str) -> str:
        ranked = name.partition("@")[0] in (*RANKED, "coverage", "novelty")
        return "higher" if ranked else super().better(name)

    def _cold(
        self, sums: Mapping[str, float], counts: Mapping[str, np.ndarray]
    ) -> dict[str, float]:
        """Figures of users and of items that nobody trained on, where there are some."""
        figures = {}
        if sums["cold_ratings"]:
            figures["cold_users"] = sums["cold_users"]
            figures["rmse_cold_users"] = _root(sums["cold_squares"], sums["cold_ratings"])
            figures["cold_user_ratings"] = sums["cold_ratings"]
        cold = (counts["rated"] == 0) & (counts["tested"] > 0)
        if cold.any():
            ratings = float(counts["tested"][cold].sum())
            figures["cold_items"] = float(cold.sum())
            figures["rmse_cold_items"] = _root(float(counts["squares"][cold].sum()) / UNIT, ratings)
            figures["cold_item_ratings"] = ratings
        return figures

    def _lists(
        self, sums: Mapping[str, float], counts: Mapping[str, np.ndarray]
    ) -> dict[str, float]:
        """What is in the lists of all users.

        Coverage is the share of all items that is in somebody's; novelty the mean of -log2 of the
        share of users who rated an item (Zhou et al., 2010), as if each item had one user more.
        """
        listed, rated = counts["listed"], counts["rated"]
        share = (rated + 1) / (sums["trained_users"] + 1)
        novelty = float((listed * -np.log2(share)).sum() / max(listed.sum(), 1))
        return {
            f"coverage@{self.k}": float((listed > 0).mean()),
            f"novelty@{self.k}": novelty,
        }


def scores_of(module: nn.Module, users: torch.Tensor, items: int) -> torch.Tensor:
    """The ratings [m, I] that a model predicts of users, int64 [m], for every item."""
    if (scores := getattr(module, "scores", None)) is not None:
        return scores(users)
    every = torch.arange(items).expand(len(users), -1)
    pairs = torch.stack([users[:, None].expand(-1, items), every], dim=-1)
    return module(pairs).squeeze(-1)


def _root(squares: float, ratings: float) -> float:
    return float(np.sqrt(squares / ratings))
