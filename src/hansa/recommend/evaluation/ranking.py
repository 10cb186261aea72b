"""Rankings of items, and how good one user's is.

Every item that the user has not rated for training is a candidate: the ranking is full. Items of
equal scores are in the order of their numbers. What is relevant are the user's test items. A list
is as long as ``k`` says, whether or not there are so many candidates: who is recommended too little
is not rewarded for it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Discount = Literal["rank_plus_one", "rank"]


def top(scores: np.ndarray, k: int) -> np.ndarray:
    """The ``k`` items of the highest scores of each row, best first.

    Args:
        scores: float [m, I]; -inf and nan are no candidates.

    Returns:
        int64 [m, k]; -1 where there are fewer candidates.
    """
    best = np.full((len(scores), k), -1, dtype=np.int64)
    wide = min(k, scores.shape[1])
    for row, values in enumerate(np.where(np.isnan(scores), -np.inf, scores)):
        least = np.partition(values, len(values) - wide)[len(values) - wide]
        above = np.flatnonzero(values > least)
        ties = np.flatnonzero(values == least)[: wide - len(above)]
        chosen = np.concatenate([above, ties])
        chosen = chosen[values[chosen] > -np.inf]
        order = chosen[np.lexsort((chosen, -values[chosen]))]
        best[row, : len(order)] = order
    return best


def discounts(k: int, discount: Discount) -> np.ndarray:
    """What a hit at each of the ranks 1 ... k counts, float64 [k].

    ``rank_plus_one`` is 1 / log2(rank + 1) (Burges et al., 2005); ``rank`` is 1 / log2(rank), and 1
    at the first two (Järvelin and Kekäläinen, 2002).
    """
    ranks = np.arange(1, k + 1, dtype=np.float64)
    if discount == "rank":
        return 1 / np.maximum(np.log2(ranks), 1)
    return 1 / np.log2(ranks + 1)


def ranking_figures(
    listed: np.ndarray, relevant: np.ndarray, gains: np.ndarray, weights: np.ndarray
) -> dict[str, float]:
    """One user's figures.

    Args:
        listed: int64 [k], items, best first, -1 for none.
        relevant: int64 [r], different items, one at least.
        gains: float64 [r], what each of them is worth, above 0.
        weights: float64 [k], of :func:`discounts`.

    Returns:
        ``ndcg``, the discounted gain beside that of the best list of this length; ``hr``, whether a
        relevant item is listed; ``recall``, the share of the relevant that are; ``precision``, the
        share of the k places that hold one; ``mrr``, one over the rank of the first, 0 where none
        is listed.
    """
    worth = dict(zip(relevant.tolist(), gains.tolist(), strict=True))
    said = np.array([worth.get(item, 0.0) for item in listed.tolist()])
    hits = np.flatnonzero(said)
    ideal = np.sort(gains)[::-1][: len(weights)]
    return {
        "ndcg": float((said * weights).sum() / (ideal * weights[: len(ideal)]).sum()),
        "hr": float(len(hits) > 0),
        "recall": len(hits) / len(relevant),
        "precision": len(hits) / len(listed),
        "mrr": 1 / (1 + int(hits[0])) if len(hits) else 0.0,
    }


def sampled_figures(
    scores: np.ndarray,
    relevant: np.ndarray,
    rated: np.ndarray,
    negatives: int,
    k: int,
    discount: Discount,
    rng: np.random.Generator,
) -> dict[str, float]:
    """One user's figures where each relevant item is ranked among a few others alone.

    Such figures are much higher than those of full rankings, and may order systems otherwise
    (Krichene and Rendle, 2020): they are only comparable with figures of the same kind.

    Args:
        scores: float [I], of all items.
        relevant: int64 [r], the user's test items, ranked one at a time.
        rated: int64, all that the user has rated: none of these is among the others.
        negatives: how many others there are, drawn anew for each item.
    """
    others = np.setdiff1d(np.arange(len(scores)), rated)
    weights = discounts(k, discount)
    ndcgs, hits = [], []
    for item in relevant.tolist():
        drawn = rng.choice(others, min(negatives, len(others)), replace=False)
        ahead = (scores[drawn] > scores[item]) | ((scores[drawn] == scores[item]) & (drawn < item))
        rank = int(ahead.sum())
        hits.append(float(rank < k))
        ndcgs.append(float(weights[rank]) if rank < k else 0.0)
    return {"ndcg": float(np.mean(ndcgs)), "hr": float(np.mean(hits))}
