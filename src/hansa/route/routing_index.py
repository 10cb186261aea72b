"""An index: what a router needs of tasks and a pool, as one plan on disk.

::

    index.safetensors   a plan of adapters (``weights/composition.py``): each a group of its own,
                        its digest, facts of the tasks, and centroids, scores and calibration
    scores.jsonl        every validation answer's score, so that nothing is measured twice

The same index gives the same routes. One adapter or task more, or less, costs its own cells.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.lazy import torch
from hansa.experiment.whose_run import whose
from hansa.route.abstaining import thresholds
from hansa.route.answering import Query, Sees
from hansa.route.encoders.encoder import Encoder, FittedEncoder
from hansa.route.routing import Routed, Router
from hansa.route.score_matrix import ScoreMatrix
from hansa.weights.composition import CompositionPlan, Group, Member, PlanBlock

FILE, LEDGER = "index.safetensors", "scores.jsonl"
FORMAT = 2


@dataclass(frozen=True)
class IndexedTask:
    """A task as an index knows it.

    Attributes:
        digest: of its validation set and metric.
        examples: in its validation set.
        calibration: float64 [n_t], cosines of its validation vectors, each with the centroid of
            the others.
    """

    name: str
    domain: str
    metric: str
    own: str | None
    digest: str
    examples: int
    calibration: np.ndarray


@dataclass(frozen=True)
class RoutingIndex:
    """Tasks, a pool, and the router over them.

    Attributes:
        base: the base's folder, and its digest in ``base_sha256``.
        pool: the folder of the adapters' folders.
        adapters: name to digest, in the pool's order.
        tasks: in order.
        centroids: float32 [T, d].
        means: float64 [T, A], NaN where nothing was measured; counts beside it.
        choices: int [T].
        alpha: share of a task's own queries that may be turned away; 0: nobody abstains.
        encoder: and its fitted form.
        sees: what it is given of a query.
        facts: what else is to be told, such as what the association cost.
    """

    base: Path
    base_sha256: str
    pool: Path
    adapters: Mapping[str, str]
    tasks: tuple[IndexedTask, ...]
    centroids: np.ndarray
    means: np.ndarray
    counts: np.ndarray
    choices: np.ndarray
    k: int
    temperature: float
    alpha: float
    encoder: Encoder
    fitted: FittedEncoder
    facts: Mapping[str, Any]
    sees: Sees = "text"

    @property
    def router(self) -> Router:
        """The router over vectors."""
        levels = None
        if self.alpha > 0:
            levels = thresholds([task.calibration for task in self.tasks], self.alpha)
        return Router(self.centroids, self.choices, self.k, self.temperature, levels)

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters, as mixtures count them."""
        return tuple(self.adapters)

    def route(self, queries: Sequence[Query]) -> list[Routed]:
        """Where queries go; adapters are counted as in :attr:`names`."""
        vectors = self.fitted.embed([query.seen(self.sees) for query in queries])
        width = self.centroids.shape[1]
        if vectors.shape[1] != width:
            problem = f"gives vectors of {vectors.shape[1]} numbers, the index has {width}"
            raise ConfigError("encoder", self.encoder.name, problem, "make the index anew")
        return self.router.route(vectors)

    def save(self, place: Path) -> Path:
        """Write it into a folder, or replace it, in one step.

        Raises:
            DiskError: the disk is full or fails.
        """
        members = tuple(Member(name, sha) for name, sha in self.adapters.items())
        alone = tuple(Group((k,), (1.0,)) for k in range(len(members)))
        facts = {
            "format": FORMAT,
            "made": dict(self.facts),
            "base": _relative(self.base, place), "pool": _relative(self.pool, place),
            "k": self.k, "temperature": self.temperature, "alpha": self.alpha,
            "encoder": self.encoder.dump(), "encoder_state": self.fitted.state(),
            "sees": self.sees,
            "tasks": [
                {"name": t.name, "domain": t.domain, "metric": t.metric, "own": t.own,
                 "digest": t.digest, "examples": t.examples}
                for t in self.tasks
            ],
        }  # fmt: skip
        plan = CompositionPlan(
            "adapters", Member(self.base.name, self.base_sha256), members,
            (PlanBlock("adapter", (), alone),), facts,
        )  # fmt: skip
        arrays: dict[str, np.ndarray] = {
            "centroids": self.centroids.astype(np.float32),
            "means": self.means.astype(np.float64),
            "counts": self.counts.astype(np.int64),
            "choices": self.choices.astype(np.int64),
            "calibration": np.concatenate([t.calibration for t in self.tasks]).astype(np.float64),
        }
        place.mkdir(parents=True, exist_ok=True)
        tensors = {name: torch.from_numpy(rows.copy()) for name, rows in arrays.items()}
        return plan.write(place / FILE, tensors)

    @classmethod
    def open(cls, place: Path, trusted: str = "") -> RoutingIndex:
        """An index from its folder, or from the folder of a run that made one.

        Args:
            trusted: the import path of an encoder of one's own, whose code may run.

        Raises:
            CheckpointError: there is none, or it was changed.
            ConfigError: its encoder cannot be had here, or is code that nobody trusted.
        """
        place = Path(place).expanduser()
        if not (place / FILE).is_file() and (place / "index" / FILE).is_file():
            place = place / "index"
        if not (place / FILE).is_file():
            if (command := whose(place)) and not command.startswith("route"):
                problem = f"is a run of hansa {command}, and its models are routed to by no text"
                fix = "hansa combine merge RUN, then hansa route models CUT"
                raise ConfigError("index", str(place), problem, fix)
            raise CheckpointError(f"{place}: holds no {FILE}; hansa route index makes one")
        plan, tensors = CompositionPlan.read(place / FILE)
        facts = plan.facts
        if plan.kind != "adapters" or facts.get("format") != FORMAT or plan.base is None:
            raise CheckpointError(f"{place / FILE}: is no index of this version; make it anew")
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        named = str(facts["encoder"]["name"])
        if ":" in named and named != trusted:
            problem = "is code, which reading this index would run"
            fix = "if you trust it: RoutingIndex.open(place, trusted=the name)"
            raise ConfigError("encoder", named, problem, fix)
        encoder = Encoder.resolve(facts["encoder"])
        ends = np.cumsum([t["examples"] for t in facts["tasks"]])[:-1]
        tasks = tuple(
            IndexedTask(**one, calibration=calibration)
            for one, calibration in zip(
                facts["tasks"], np.split(arrays["calibration"], ends), strict=True
            )
        )
        return cls(
            (place / facts["base"]).resolve(), plan.base.sha256, (place / facts["pool"]).resolve(),
            {member.name: member.sha256 for member in plan.members}, tasks,
            arrays["centroids"], arrays["means"], arrays["counts"], arrays["choices"],
            facts["k"], facts["temperature"], facts["alpha"],
            encoder, encoder.restored(facts["encoder_state"]), facts["made"],
            facts["sees"],
        )  # fmt: skip


def index_of(
    matrix: ScoreMatrix, tasks: Sequence[IndexedTask], centroids: np.ndarray, **more: Any
) -> RoutingIndex:
    """An index over a score matrix."""
    return RoutingIndex(
        tasks=tuple(tasks), centroids=centroids, means=matrix.means(), counts=matrix.counts(),
        choices=matrix.choices(), **more,
    )  # fmt: skip


def _relative(path: Path, place: Path) -> str:
    """Within the folder that the index lies in, relative, so that all of it can move together."""
    home = place.resolve().parent
    path = path.resolve()
    return os.path.relpath(path, place.resolve()) if path.is_relative_to(home) else str(path)
