"""When no task is near: the base answers, at a rate of false alarms that was chosen.

Split-conformal thresholds (Vovk et al. 2005), a task each: with n validation vectors the threshold
is the floor(alpha (n + 1))-th smallest cosine with the centroid of the others. A query of the task
lies below it with a chance of about alpha or less; it goes to the base only where it lies below the
threshold of every task. The cosines leave one out, so that the guarantee is that of the jackknife:
very nearly, not strictly, alpha.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hansa.route.embeddings import left_out


def thresholds(calibration: Sequence[np.ndarray], alpha: float) -> np.ndarray:
    """float64 [T]; -inf where the task has too few examples to turn anyone away.

    Args:
        calibration: of each task the cosines of its validation vectors, each with the centroid of
            the others.
        alpha: the share of a task's own queries that may be turned away.
    """
    levels = []
    for cosines in calibration:
        place = int(np.floor(alpha * (len(cosines) + 1) + 1e-9))
        levels.append(np.sort(cosines)[place - 1] if place >= 1 else -np.inf)
    return np.array(levels, dtype=np.float64)


def conformal(vectors: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The calibration of tasks from their validation vectors [n_t, d] of length 1."""
    return [left_out(rows).astype(np.float64) for rows in vectors]


def p_values(similar: np.ndarray, calibration: Sequence[np.ndarray]) -> np.ndarray:
    """float64 [n]: the largest over tasks of the share of calibration cosines that are no larger.

    Args:
        similar: [n, T] cosines of queries with tasks; -inf: the task does not exist for it.
    """
    shares = np.zeros_like(similar, dtype=np.float64)
    for t, cosines in enumerate(calibration):
        below = np.searchsorted(np.sort(cosines), similar[:, t], side="right")
        shares[:, t] = (below + np.isfinite(similar[:, t])) / (len(cosines) + 1)
    return shares.max(1)


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """How often a query of a task has a larger value than one of none; equals count half."""
    order = np.sort(outside)
    below = np.searchsorted(order, inside, side="left")
    upto = np.searchsorted(order, inside, side="right")
    return float(((below + upto) / 2).mean() / max(1, len(order)))
