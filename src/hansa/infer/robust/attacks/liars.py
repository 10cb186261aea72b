"""What liars know when they answer, and the kind of component that says what they answer.

An attack is a wrapper around what the liars send: honest rows are untouched, and every row stays
a vector of probabilities. White-box attacks see the rule, all honest rows and the true class;
black-box ones their own rows, or those of all liars.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hansa.base.component import Component
from hansa.base.lazy import torch
from hansa.base.streams import Streams
from hansa.infer.robust.score_aggregator import ScoreAggregator

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LiarScene:
    """A set of queries, and who lies about each.

    Attributes:
        aggregator: the rule that is attacked.
        labels: int64 [m], the true classes.
        liars: int64 [m, f], members that lie, each once a query.
        similarity: [K, K], how the rule's scores of two classes vary together on the server set;
            None where nobody knows.
    """

    aggregator: ScoreAggregator
    labels: Tensor
    liars: Tensor
    streams: Streams
    similarity: Tensor | None = None

    def own(self, probabilities: Tensor) -> Tensor:
        """The liars' honest rows [m, f, K]."""
        return probabilities.gather(1, self._at(probabilities))

    def send(self, probabilities: Tensor, rows: Tensor) -> Tensor:
        """Rows [m, n, K] with the liars' replaced by [m, f, K], or by [m, K] of all alike."""
        at = self._at(probabilities)
        lies = rows.unsqueeze(1).expand_as(at) if rows.ndim == 2 else rows
        return probabilities.scatter(1, at, lies.to(probabilities))

    def _at(self, probabilities: Tensor) -> Tensor:
        return self.liars.unsqueeze(-1).expand(-1, -1, probabilities.shape[-1])


class InferenceAttack(Component, kind="inference_attack"):
    """What liars send in place of their probabilities."""

    needs_similarity: ClassVar[bool] = False
    """Whether it asks for :attr:`LiarScene.similarity`."""

    @abstractmethod
    def forge(self, probabilities: Tensor, scene: LiarScene) -> Tensor:
        """Rows [m, n, K] in which the liars' are replaced; the others are as they came."""


def one_hot(classes: Tensor, size: int) -> Tensor:
    """Classes int64 [...] as rows [..., size]."""
    return torch.eye(size)[classes]


def second(scores: Tensor) -> Tensor:
    """The class with the second largest score: [..., K] -> [...]."""
    return scores.topk(2, -1).indices[..., 1]
