"""How much of a layer an attack has, and how much one has who only knows which weights occur."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from hansa.base.streams import Streams

Score: TypeAlias = "Callable[[np.ndarray, np.ndarray], int]"
_GUESSES = 8


def right_up_to_order(guess: np.ndarray, truth: np.ndarray) -> int:
    """Weights that are exact when output channels may come in any order.

    Args:
        guess: int64 [O, ...], as a client has them.
        truth: int64 [O, ...], the server's.

    Returns:
        The most that any pairing of channels gives.
    """
    from scipy.optimize import linear_sum_assignment

    mine, yours = guess.reshape(len(guess), -1), truth.reshape(len(truth), -1)
    same = (mine[:, None, :] == yours[None, :, :]).sum(-1)
    return int(same[linear_sum_assignment(same, maximize=True)].sum())


def right_in_order(guess: np.ndarray, truth: np.ndarray) -> int:
    """Weights that are exact where they stand."""
    return int((guess == truth).sum())


def right_columns(guess: np.ndarray, truth: np.ndarray) -> int:
    """Weights of columns [O, d] whose multiset is exact: what is left where every query is
    shuffled anew (Kim and Lee, 2026)."""
    same = (np.sort(guess, 0) == np.sort(truth, 0)).all(0)
    return int(same.sum()) * len(truth)


def chance(score: Score, truth: np.ndarray, seed: int) -> float:
    """Share that guesses get right who know the weights' values, and not their places.

    Args:
        score: (guess, truth) -> weights that are right, one of this module.
        truth: int64, the server's weights.
        seed: of the guesses.
    """
    draw = Streams(seed).numpy("guesses of the red team")
    guesses = (draw.permutation(truth.ravel()).reshape(truth.shape) for _ in range(_GUESSES))
    return float(np.mean([score(guess, truth) for guess in guesses]) / truth.size)
