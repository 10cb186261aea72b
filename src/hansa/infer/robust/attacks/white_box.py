"""Attacks by who knows the rule and all honest rows, each by a single look at its scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.infer.robust.attacks.black_box import PAPER
from hansa.infer.robust.attacks.liars import InferenceAttack, LiarScene, one_hot, second

if TYPE_CHECKING:
    from torch import Tensor


ROUX: Any = {"paper": "Roux et al.", "year": 2024, "url": "https://arxiv.org/abs/2402.12265"}


@register("sia_whitebox", **PAPER)
class SecondClass(InferenceAttack):
    """All on the rule's best wrong class (strongest inverted attack)."""

    off_simplex: bool = Field(
        False,
        description="as in the published code: that number becomes 1 and the others stay, so rows "
        "are no probabilities and keep what they give the true class",
    )

    def forge(self, probabilities: Tensor, scene: LiarScene) -> Tensor:
        """The target is the rule's first class if that is wrong, else its second."""
        scores = scene.aggregator.scores(probabilities)
        first = scores.argmax(-1)
        target = torch.where(first == scene.labels, second(scores), first)
        votes = one_hot(target, scores.shape[-1])
        if not self.off_simplex:
            return scene.send(probabilities, votes)
        own = scene.own(probabilities)
        return scene.send(probabilities, torch.where(votes.unsqueeze(1) > 0, 1.0, own))


@register("lma", **ROUX)
class LeastLikely(InferenceAttack):
    """All on the class that the rule holds least likely (loss maximization attack)."""

    def forge(self, probabilities: Tensor, scene: LiarScene) -> Tensor:
        """One-hot rows."""
        scores = scene.aggregator.scores(probabilities)
        return scene.send(probabilities, one_hot(scores.argmin(-1), scores.shape[-1]))


@register("cpa", **ROUX)
class LeastSimilar(InferenceAttack):
    """All on the class least like the one answered (class prior attack).

    Likeness is the covariance of the rule's scores over the server set; without one, over the
    queries themselves. The published code does not say which rule's it takes: it is the attacked
    one's here.
    """

    needs_similarity: ClassVar[bool] = True

    def forge(self, probabilities: Tensor, scene: LiarScene) -> Tensor:
        """One-hot rows."""
        scores = scene.aggregator.scores(probabilities)
        like = scene.similarity
        if like is None:
            like = similarity(scene.aggregator.shares(scores))
        return scene.send(probabilities, one_hot(like[scores.argmax(-1)].argmin(-1), len(like)))


@register("impersonation")
class Impersonation(InferenceAttack):
    """A copy of the honest row that is farthest from all other honest ones."""

    def forge(self, probabilities: Tensor, scene: LiarScene) -> Tensor:
        """All liars send the same honest row."""
        lying = torch.zeros(probabilities.shape[:2], dtype=torch.bool)
        lying = lying.scatter(1, scene.liars, True)
        far = torch.cdist(probabilities, probabilities)
        far = far.masked_fill(lying.unsqueeze(1), 0).sum(2).masked_fill(lying, -1)
        at = far.argmax(1)
        return scene.send(probabilities, probabilities[torch.arange(len(at)), at])


def similarity(shares: Tensor) -> Tensor:
    """How scores [m, K] vary together: their covariance [K, K]."""
    centred = shares - shares.mean(0)
    return centred.T @ centred / max(1, len(shares) - 1)
