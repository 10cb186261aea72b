"""The rule of an ensemble (FENS) as what answers: of scores, and of members that are told apart.

Scores are no probabilities: a liar may send any number, so a weighted sum has no certificate.
Votes have one, since a liar has one vote and no more; and a median or a trimmed mean keeps its own,
for as many liars as it trims.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy, torch
from hansa.ensemble import Panel, TrimmedMean, certificates
from hansa.ensemble.panel import rows_of
from hansa.infer.robust.answering import Positional
from hansa.infer.serving.member_model import probabilities

if TYPE_CHECKING:
    from torch import Tensor, nn

networks = Lazy("hansa.ensemble.networks")  # they need torch


class RuleScores(Positional):
    """A rule that was fitted, over scores [m, n, C] of its members in their order.

    Args:
        rule: rows of scores -> scores.
        sees_input: whether it looks at the input too, which an aggregate of members never sees.

    Raises:
        ConfigError: it does.
    """

    name = "rule"

    def __init__(self, rule: nn.Module, panel: Panel, sees_input: bool = False) -> None:
        if sees_input:
            problem = "has a rule that looks at the input, and what serves members only sees scores"
            raise ConfigError("ensemble", None, problem, "another of its rules: choose: NAME")
        self.rule, self.panel = rule, panel

    @property
    def width(self) -> int:
        """C."""
        return self.panel.outputs

    def among(self, which: Sequence[int]) -> RuleScores | None:
        """The rule of some members: weights share out anew; a network needs all."""
        some = list(which)
        if some == list(range(self.panel.members)):
            return self
        panel = Panel(len(some), self.panel.outputs)
        if isinstance(self.rule, networks.Fixed):
            weights = self.rule.weights[some]
            total = weights.sum(0, keepdim=True)
            even = torch.full_like(weights, 1 / max(1, len(some)))
            shared = torch.where(total > 0, weights / total.clamp(min=1e-12), even)
            return RuleScores(networks.Fixed(panel, shared), panel)
        if isinstance(self.rule, networks.Votes):
            return RuleScores(networks.Votes(panel, self.rule.competency[some]), panel)
        if isinstance(self.rule, networks.Aggregated):
            return RuleScores(networks.Aggregated(panel, self.rule.aggregator), panel)
        return None

    @property
    def least(self) -> int:
        """What its aggregator needs, where it has one."""
        if isinstance(self.rule, networks.Aggregated):
            return int(self.rule.aggregator.least)
        return 1

    def scores(self, probabilities: Tensor) -> Tensor:
        """The rule's scores: [m, n, C] -> [m, C]."""
        whole = self.rule(rows_of(probabilities.float().transpose(0, 1)))
        assert isinstance(whole, torch.Tensor)
        return whole

    def shares(self, scores: Tensor) -> Tensor:
        """A softmax of the scores: [m, classes]."""
        return probabilities(scores)

    def certified(self, probabilities: Tensor, f: int, missing: int = 0) -> Tensor:
        """Of votes, medians and trimmed means; False for all others."""
        return self.largest_f(probabilities, missing) >= f

    def largest_f(self, probabilities: Tensor, missing: int = 0) -> Tensor:
        """Of votes, medians and trimmed means; -1 for all others, and while members are out."""
        none = torch.full((len(probabilities),), -1)
        if missing:
            return none
        if isinstance(self.rule, networks.Votes):
            return self._votes(probabilities)
        if not isinstance(self.rule, networks.Aggregated) or self.width == 1:
            return none
        aggregator = self.rule.aggregator
        if aggregator.name not in ("median", "trimmed_mean", "majority_vote"):
            return none
        n = probabilities.shape[1]
        most = aggregator.f if isinstance(aggregator, TrimmedMean) else (n - 1) // 2
        # Where all liars are trimmed away, numbers beyond all others are as good as infinite.
        low, high = probabilities.amin((1, 2), True), probabilities.amax((1, 2), True)
        inside = (probabilities - low + 1) / (high - low + 2)
        if aggregator.name == "majority_vote":
            inside = torch.softmax(inside, -1)  # the same votes
        return certificates.largest_f(aggregator, inside).clamp(max=most)

    def _votes(self, scores: Tensor) -> Tensor:
        """A liar takes from the lead over a rival what its vote gave, and votes as suits the rival
        best: the worst f are those with the most to take."""
        table = self.rule.get_buffer("competency").double()  # [n, true, said]
        said = (scores[..., 0] > 0).long() if self.width == 1 else scores.argmax(-1)
        members = torch.arange(self.panel.members)
        chances = table.transpose(1, 2)[members, said]  # [m, n, true]
        whole = chances.sum(1)
        best = whole.argmax(1)
        lead = table[members[None], best[:, None]]  # [m, n, said]: of the class that is answered
        largest = torch.full((len(scores),), self.panel.members)
        for rival in range(whole.shape[1]):
            gaps = lead - table[:, rival]  # [m, n, said]
            now = torch.gather(gaps, 2, said[..., None])[..., 0]
            losses = (now - gaps.amin(2)).sort(1, descending=True).values
            left = now.sum(1, keepdim=True) - losses.cumsum(1)
            holds = torch.cat([now.sum(1, keepdim=True), left], 1) > 0
            count = holds.long().cumprod(1).sum(1) - 1  # the largest f that it holds for
            largest = torch.where(best == rival, largest, torch.minimum(largest, count))
        return largest
