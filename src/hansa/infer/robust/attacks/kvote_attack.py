"""K-vote: all liars vote for one class, the one that hurts most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hansa.base.component import register
from hansa.ensemble.kvote import worst_rows
from hansa.infer.robust.attacks.liars import InferenceAttack, LiarScene

if TYPE_CHECKING:
    from torch import Tensor


@register("kvote")
class KVote(InferenceAttack):
    """The exact worst case of rules that rise with each vote (mean, trimmed mean, median, votes).

    Of other rules it is a strong attack that needs no gradient. A query that no vote hurts more
    than the liars' honest rows is answered honestly.
    """

    def forge(self, probabilities: Tensor, scene: LiarScene) -> Tensor:
        """One-hot rows, the worst of K - 1 tries."""
        return worst_rows(scene.aggregator.scores, probabilities, scene.liars, scene.labels)
