"""Peers keep their validation sets: centroids and rows of scores leave, nothing else.

Every peer has some validation examples of every task. It sends, for each task, one vector (the
centroid of its texts, with Gaussian noise if it wants) and one row of scores (the mean of each
adapter on its examples). The server takes peers' centroids and rows together, task by task, by an
aggregator that a few liars cannot move far. A contributor that goes is left out of the sums: the
result is the one that never had it, bit for bit, as each aggregate is made from what the others
sent. This needs an encoder that learns nothing from texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.base.streams import Streams
from hansa.ensemble.aggregators.aggregator import Aggregator
from hansa.route.embeddings import centroid
from hansa.route.score_matrix import ScoreMatrix


@dataclass(frozen=True)
class Contribution:
    """What one peer sends.

    Attributes:
        centroids: float32 [T, d], length 1 each; with the peer's noise.
        scores: float32 [T, A] between 0 and 1, means on its own examples.
    """

    centroids: np.ndarray
    scores: np.ndarray

    def encoded(self) -> bytes:
        """As it travels: a safetensors frame."""
        from hansa.base.lazy import safetensors_torch

        data: bytes = safetensors_torch.save(
            {
                "centroids": torch.from_numpy(np.ascontiguousarray(self.centroids, np.float32)),
                "scores": torch.from_numpy(np.ascontiguousarray(self.scores, np.float32)),
            }
        )
        return data

    @classmethod
    def decoded(cls, data: bytes, tasks: int, adapters: int, width: int) -> Contribution:
        """What came, checked.

        Raises:
            ConfigError: the shapes are others, or a number is not finite or is no score.
        """
        from hansa.base.lazy import safetensors, safetensors_torch

        try:
            tensors = safetensors_torch.load(data)
            one = cls(tensors["centroids"].numpy(), tensors["scores"].numpy())
        except (safetensors.SafetensorError, KeyError) as error:
            problem = f"cannot be read: {error}"
            raise ConfigError("contribution", None, problem, "leave the peer out") from None
        one.check(tasks, adapters, width)
        return one

    def check(self, tasks: int, adapters: int, width: int) -> None:
        """Hold it against what the server expects.

        Raises:
            ConfigError: as :meth:`decoded`.
        """
        shapes = self.centroids.shape, self.scores.shape
        fix = "leave the peer out"
        if shapes != ((tasks, width), (tasks, adapters)):
            problem = f"has the shapes {shapes}, not {((tasks, width), (tasks, adapters))}"
            raise ConfigError("contribution", None, problem, fix)
        if not (np.isfinite(self.centroids).all() and np.isfinite(self.scores).all()):
            raise ConfigError("contribution", None, "holds a number that is not finite", fix)
        lengths = np.linalg.norm(self.centroids, axis=1)
        if (abs(lengths - 1) > 1e-3).any():
            raise ConfigError("contribution", None, "holds a centroid that is not of length 1", fix)
        if (self.scores < 0).any() or (self.scores > 1).any():
            raise ConfigError("contribution", None, "holds a score outside 0 to 1", fix)


def contributed(
    vectors: Sequence[np.ndarray], scores: Sequence[np.ndarray], sigma: float,
    rng: np.random.Generator,
) -> Contribution:  # fmt: skip
    """What a peer sends of its examples.

    Args:
        vectors: of each task [n_t, d], of length 1.
        scores: of each task [A, n_t].
        sigma: of the Gaussian noise on each number of a centroid of length 1; no guarantee of
            differential privacy is claimed, since a text's influence depends on how many there are.
    """
    rows = np.stack([centroid(each) for each in vectors])
    if sigma > 0:
        rows = rows + rng.normal(0, sigma, rows.shape)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    means = np.stack([each.mean(1, dtype=np.float64) for each in scores])
    return Contribution(rows.astype(np.float32), means.astype(np.float32))


@dataclass
class Gathering:
    """What the server holds of peers.

    Attributes:
        of: each peer's contribution, by name.
        received: bytes by peer.
    """

    tasks: tuple[str, ...]
    adapters: tuple[str, ...]
    width: int
    of: dict[str, Contribution] = field(default_factory=dict)
    received: dict[str, int] = field(default_factory=dict)

    def admit(self, peer: str, data: bytes) -> None:
        """Take what a peer sent in the place of what it sent before.

        Raises:
            ConfigError: it is malformed.
        """
        shapes = len(self.tasks), len(self.adapters), self.width
        self.of[peer] = Contribution.decoded(data, *shapes)
        self.received[peer] = len(data)

    def forget(self, peer: str) -> None:
        """Leave a peer out from here on.

        Raises:
            ConfigError: there is none of this name.
        """
        if peer not in self.of:
            fix = f"one of {', '.join(self.of)}"
            raise ConfigError("peer", peer, "has contributed nothing", fix)
        del self.of[peer], self.received[peer]

    def combined(self, aggregator: Aggregator) -> tuple[np.ndarray, ScoreMatrix]:
        """(centroids float32 [T, d], the scores of all peers as one matrix of one column a cell).

        Peers stand in the order of their names, so that it does not matter who came first.

        Raises:
            ConfigError: there are too few peers for the aggregator.
        """
        peers = [self.of[name] for name in sorted(self.of)]
        if len(peers) < aggregator.least:
            problem = f"needs {aggregator.least} peers, and there are {len(peers)}"
            raise ConfigError("aggregator", aggregator.name, problem, "more peers, or mean")
        rows = _many(aggregator, np.stack([one.centroids for one in peers]))
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if not (lengths > 1e-9).all():
            raise ConfigError("peers", None, "their centroids of a task cancel", "other peers")
        means = np.clip(_many(aggregator, np.stack([one.scores for one in peers])), 0, 1)
        none = np.full(len(self.tasks), -1, np.int64)
        cells = tuple(row[:, None].astype(np.float32) for row in means)
        matrix = ScoreMatrix(self.tasks, self.adapters, cells, none, (False,) * len(cells))
        return (rows / lengths).astype(np.float32), matrix


def _many(aggregator: Aggregator, rows: np.ndarray) -> np.ndarray:
    """Task by task one row of many: [peers, T, D] -> [T, D]."""
    sets = torch.from_numpy(np.ascontiguousarray(rows.transpose(1, 0, 2), dtype=np.float64))
    result: np.ndarray = aggregator.many(sets).numpy()
    return result


def split(sizes: Sequence[int], peers: int, streams: Streams) -> list[list[np.ndarray]]:
    """Validation examples dealt to peers: for each peer, of each task the places of its own.

    Raises:
        ConfigError: a task has fewer examples than there are peers.
    """
    if min(sizes) < peers:
        problem = f"is more than the {min(sizes)} validation examples of a task"
        raise ConfigError("peers", peers, problem, f"at most {min(sizes)}")
    dealt = [
        np.array_split(streams.numpy(f"peers {task}").permutation(size), peers)
        for task, size in enumerate(sizes)
    ]
    return [[np.sort(parts[peer]) for parts in dealt] for peer in range(peers)]


def lie(honest: Contribution, worst: Mapping[int, int]) -> Contribution:
    """What a liar sends: 1 for the adapter that it wants on each task, 0 for all others.

    Its centroids point away, so that tasks are not found where they are.

    Args:
        worst: of each task the adapter that it wants.
    """
    scores = np.zeros_like(honest.scores)
    for task, adapter in worst.items():
        scores[task, adapter] = 1
    return Contribution(-honest.centroids, scores)
