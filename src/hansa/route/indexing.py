"""Making an index, and making it anew when something came or went: only what is new costs work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hansa.base.streams import Streams
from hansa.route.abstaining import conformal
from hansa.route.answering import AnsweringModel, Sees
from hansa.route.association import Association
from hansa.route.embeddings import centroid, embedded
from hansa.route.encoders.encoder import Encoder, FittedEncoder
from hansa.route.pool_scorer import PoolScorer
from hansa.route.routing_index import IndexedTask, RoutingIndex
from hansa.route.score_ledger import ScoreLedger
from hansa.route.score_matrix import ScoreMatrix
from hansa.route.sets import RoutedTask

Say = Callable[[str], None]


@dataclass(frozen=True)
class Placed:
    """Where tasks lie.

    Attributes:
        centroids: float32 [T, d].
        embedded: tasks whose texts were embedded now.
    """

    fitted: FittedEncoder
    tasks: tuple[IndexedTask, ...]
    centroids: np.ndarray
    embedded: int


def place_tasks(
    tasks: Sequence[RoutedTask], encoder: Encoder, before: RoutingIndex | None = None,
    sees: Sees = "text",
) -> Placed:  # fmt: skip
    """Centroids and calibration of tasks; those that an index has by the same encoder are taken.

    An encoder that learns keeps what it has learned, and learns the words of new tasks on top.

    Raises:
        ConfigError: a text has no direction, or a task lies nowhere.
    """
    kept = {}
    same = before is not None and before.sees == sees
    if before is not None and same and before.encoder.dump() == encoder.dump():
        kept = {task.digest: place for place, task in enumerate(before.tasks)}
    new = [task for task in tasks if task.digest() not in kept]
    texts = [text for task in new for text in task.texts(sees)]
    if before is not None and kept:
        fitted = before.fitted.grown(texts) if texts else before.fitted
    else:
        fitted = encoder.fitted(texts)
    placed: list[IndexedTask] = []
    rows: list[np.ndarray] = []
    for task in tasks:
        digest = task.digest()
        if before is not None and digest in kept:
            old = before.tasks[kept[digest]]
            calibration, row = old.calibration, before.centroids[kept[digest]]
        else:
            vectors = embedded(fitted, task.texts(sees))
            calibration, row = conformal([vectors])[0], centroid(vectors, task.name)
        rows.append(row)
        placed.append(
            IndexedTask(task.name, task.domain, task.metric, task.own, digest,
                        len(task.validation), calibration)
        )  # fmt: skip
    width = max(len(row) for row in rows)
    centroids = np.stack([np.pad(row, (0, width - len(row))) for row in rows])
    return Placed(fitted, tuple(placed), centroids.astype(np.float32), len(new))


@dataclass(frozen=True)
class Associated:
    """What association came to.

    Attributes:
        evaluated: validation answers taken now; what the ledger had is not among them.
        exhaustive: what every cell would have cost.
    """

    matrix: ScoreMatrix
    evaluated: int
    exhaustive: int


def associate(
    model: AnsweringModel, tasks: Sequence[RoutedTask], adapters: Sequence[str],
    digests: Mapping[str, str], association: Association, ledger: ScoreLedger, seed: int,
    batch: int = 64, say: Say = lambda text: None,
) -> Associated:  # fmt: skip
    """Measure what the association asks for, on top of what the ledger has."""
    scorer = PoolScorer(model, tasks, adapters, digests, ledger, batch, say)
    association.run(scorer, Streams(seed), [task.name for task in tasks])
    whole = scorer.pool * sum(scorer.sizes)
    return Associated(scorer.matrix(), scorer.evaluated, whole)
