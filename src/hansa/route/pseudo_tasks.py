"""Tasks without labels: k-means on validation vectors, whatever task they were of (LORAUTER)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hansa.base.errors import ConfigError
from hansa.route.embeddings import centroid
from hansa.route.score_matrix import ScoreMatrix


@dataclass(frozen=True)
class PseudoTasks:
    """Clusters that stand for tasks.

    Attributes:
        centroids: float32 [C, d], of length 1.
        members: of each cluster the places of its examples, counted through all tasks.
        matrix: the scores of adapters by cluster.
    """

    centroids: np.ndarray
    members: tuple[np.ndarray, ...]
    matrix: ScoreMatrix


def pseudo_tasks(
    vectors: Sequence[np.ndarray], matrix: ScoreMatrix, clusters: int, seed: int
) -> PseudoTasks:
    """Clusters of all tasks' validation vectors, and each adapter's scores on them.

    A sample's scores are divided by those of the best adapter on it, so that hard samples count as
    much as easy ones; a sample that nobody gets right says nothing and counts 0.

    Args:
        vectors: of each task [n_t, d], of length 1.
        matrix: measured on every example that counts; others are left out of a cluster's mean.
        clusters: at most as many as there are examples.

    Raises:
        ConfigError: there are fewer examples than clusters.
    """
    from sklearn.cluster import KMeans

    rows = np.concatenate(list(vectors))
    if clusters > len(rows):
        problem = f"is more than the {len(rows)} validation examples"
        raise ConfigError("clusters", clusters, problem, "fewer clusters")
    labels = KMeans(clusters, n_init=4, random_state=seed % 2**32).fit_predict(rows)
    scores = np.concatenate(matrix.scores, axis=1)
    with np.errstate(invalid="ignore"):
        best = np.where(np.isfinite(scores).any(0), np.nanmax(np.nan_to_num(scores, nan=-1), 0), 0)
    scaled = scores / np.where(best > 0, best, 1)
    members = tuple(np.flatnonzero(labels == c) for c in range(clusters))
    members = tuple(sorted((m for m in members if len(m)), key=lambda m: int(m[0])))
    names = tuple(f"cluster {c}" for c in range(len(members)))
    none = np.full(len(members), -1, np.int64)
    binary = (False,) * len(members)
    clustered = ScoreMatrix(
        names, matrix.adapters, tuple(scaled[:, m] for m in members), none, binary
    )
    return PseudoTasks(np.stack([centroid(rows[m]) for m in members]), members, clustered)
