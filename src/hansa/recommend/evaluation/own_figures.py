"""What a model makes of one node's ratings, in sums that add up over nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from hansa.base.streams import Streams
from hansa.engine.own_judge import Tally
from hansa.recommend.evaluation.ranking import (
    Discount,
    discounts,
    ranking_figures,
    sampled_figures,
    top,
)

Rate: TypeAlias = "Callable[[np.ndarray], np.ndarray]"
"""int64 [n, 2], pairs of user and item -> [n], the stars that are predicted."""
Score: TypeAlias = "Callable[[np.ndarray], np.ndarray]"
"""int64 [m], users -> [m, I], by which items are ranked for each."""
RANKED = ("ndcg", "hr", "recall", "precision", "mrr")
UNIT = 1 << 20
"""Squared errors by item are whole numbers of this part of a star squared."""
_USERS_AT_A_TIME = 256
_WORST = 1e6  # of a squared error by item, so that models that diverged can be added up too


@dataclass(frozen=True)
class Measuring:
    """How rankings are measured; :class:`~hansa.recommend.evaluation.ratings_judge.RatingsJudge`
    says what each is.

    Attributes:
        scale: ratings that are predicted are moved into it; (): they are not.
    """

    k: int = 10
    relevant_from: float | None = None
    stars_as_gains: bool = False
    discount: Discount = "rank_plus_one"
    sampled: int | None = None
    scale: tuple[float, ...] = ()


def tally(
    rate: Rate,
    score: Score | None,
    trained: np.ndarray,
    tested: np.ndarray,
    stars: np.ndarray,
    items: int,
    how: Measuring,
) -> Tally:
    """One node's sums.

    Args:
        score: None where nothing is ranked.
        trained: int64 [t, 2], the pairs that it trains on, which are no candidates of a ranking.
        tested: int64 [s, 2], those that it is tested on, one at least.
        stars: float [s], their ratings.
        items: how many there are.
    """
    said = rate(tested).astype(np.float64)
    if how.scale:
        low, high = how.scale
        said = said.clip(low, high)
    errors = stars.astype(np.float64) - said
    sums = _error_sums(errors, tested[:, 0], trained[:, 0])
    squares = np.rint(np.nan_to_num(np.square(errors), nan=_WORST).clip(max=_WORST) * UNIT)
    by_item = np.zeros(items, dtype=np.int64)
    np.add.at(by_item, tested[:, 1], squares.astype(np.int64))
    counts = {
        "rated": np.bincount(trained[:, 1], minlength=items),
        "tested": np.bincount(tested[:, 1], minlength=items),
        "squares": by_item,
    }
    if score is not None and how.k:
        ranked, listed = _ranking_sums(score, trained, tested, stars, items, how)
        sums |= ranked
        counts["listed"] = listed
    return Tally(sums, counts)


def _error_sums(errors: np.ndarray, users: np.ndarray, trained: np.ndarray) -> dict[str, float]:
    """Sums over ratings, over users, and over users that have nothing to train on."""
    who, at, counts = np.unique(users, return_inverse=True, return_counts=True)
    squares, sizes = np.bincount(at, np.square(errors)), np.bincount(at, np.abs(errors))
    cold = ~np.isin(who, trained)
    return {
        "ratings": float(len(errors)),
        "squares": float(squares.sum()),
        "sizes": float(sizes.sum()),
        "users": float(len(who)),
        "user_rmse": float(np.sqrt(squares / counts).sum()),
        "user_mae": float((sizes / counts).sum()),
        "cold_users": float(cold.sum()),
        "cold_ratings": float(counts[cold].sum()),
        "cold_squares": float(squares[cold].sum()),
        "trained_users": float(len(np.unique(trained))),
    }


def _ranking_sums(
    score: Score,
    trained: np.ndarray,
    tested: np.ndarray,
    stars: np.ndarray,
    items: int,
    how: Measuring,
) -> tuple[dict[str, float], np.ndarray]:
    """(sums over users with a relevant test item, how often each item is listed int64 [I])."""
    wanted = np.ones(len(stars), bool)
    if how.relevant_from is not None:
        wanted = stars >= how.relevant_from
    users = np.unique(tested[wanted, 0])
    known, relevant = _by_user(trained, users), _by_user(tested, users, wanted)
    every = _by_user(tested, users)
    weights = discounts(how.k, how.discount)
    names = [*RANKED, *(("sampled_ndcg", "sampled_hr") if how.sampled else ())]
    sums = {"ranked_users": float(len(users)), **dict.fromkeys(names, 0.0)}
    listed = np.zeros(items, dtype=np.int64)
    for begin in range(0, len(users), _USERS_AT_A_TIME):
        some = users[begin : begin + _USERS_AT_A_TIME]
        scores = np.array(score(some))
        for row, own in enumerate(known[begin : begin + len(some)]):
            scores[row, trained[own, 1]] = -np.inf
        best = top(scores, how.k)
        np.add.at(listed, best[best >= 0], 1)
        for row, user in enumerate(some.tolist()):
            rows = relevant[begin + row]
            gains = np.ones(len(rows))
            if how.stars_as_gains:
                gains = stars[rows].astype(np.float64)
            figures = ranking_figures(best[row], tested[rows, 1], gains, weights)
            if how.sampled:
                rng = Streams(0).numpy("sampled negatives", node=user)
                rated = np.concatenate(
                    [trained[known[begin + row], 1], tested[every[begin + row], 1]]
                )
                drawn = sampled_figures(
                    scores[row], tested[rows, 1], rated, how.sampled, how.k, how.discount, rng
                )
                figures |= {f"sampled_{name}": value for name, value in drawn.items()}
            for name, value in figures.items():
                sums[name] += value
    return sums, listed


def _by_user(
    pairs: np.ndarray, users: np.ndarray, among: np.ndarray | None = None
) -> list[np.ndarray]:
    """The rows of each of some users, which are sorted; among those that are marked."""
    rows = np.arange(len(pairs)) if among is None else np.flatnonzero(among)
    order = rows[np.argsort(pairs[rows, 0], kind="stable")]
    owner = pairs[order, 0]
    begins, ends = np.searchsorted(owner, users), np.searchsorted(owner, users, side="right")
    return [order[a:b] for a, b in zip(begins.tolist(), ends.tolist(), strict=True)]
