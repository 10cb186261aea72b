"""Whether liars can change what a set network answers: bounds through its pooling and decoder.

Whatever probabilities a liar sends, each encoded number lies within the encoder's range over the
simplex (:func:`reach`). For a pooling that is a mean of ranks (mean, trimmed mean, median) the rows
in order give the lowest and highest pooled number, and the decoder's logit differences are bounded
below over that box, by intervals (Gowal et al., 2018) and by a linear relaxation of the ReLU (Zhang
et al., 2018, CROWN), whichever says more. Sound, not exact: what is not certified may be safe all
the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hansa.base.lazy import torch
from hansa.ensemble.aggregators import Aggregator

if TYPE_CHECKING:
    from torch import Tensor

_ROUNDING = 1e-5
"""Of a difference of logits, in float32: less is no certificate."""


def certified(
    network: Any, pooling: Aggregator, probabilities: Tensor, f: int, missing: int = 0
) -> Tensor:
    """Bool [m]: whether the class is the same whatever f of the rows [m, r, K] are replaced by."""
    ranked = Ranked.of(network, pooling, probabilities, missing)
    if ranked is None:
        return torch.zeros(len(probabilities), dtype=torch.bool)
    return _decided(network, ranked, f)


def largest_f(network: Any, pooling: Aggregator, probabilities: Tensor, missing: int = 0) -> Tensor:
    """The largest f certified, int64 [m]; -1 where none is. No more than liars can be outvoted."""
    largest = torch.full((len(probabilities),), -1)
    ranked = Ranked.of(network, pooling, probabilities, missing)
    left = torch.arange(len(probabilities))
    present = probabilities.shape[1]
    for f in range(min((present + missing - 1) // 2, present) + 1):
        if ranked is None or not len(left):
            break
        still = _decided(network, ranked, f)
        left, ranked = left[still], ranked.take(still)
        largest[left] = f
    return largest


def _decided(network: Any, ranked: Ranked, f: int) -> Tensor:
    low, high = ranked.box(f)
    answered = network.decoder((low + high) / 2).argmax(-1)  # of any other class it says no
    return decided(network.decoder, low, high, answered)


@dataclass(frozen=True)
class Ranked:
    """Encoded rows in order, number by number, for a pooling that is a mean of some ranks.

    Attributes:
        sums: [r + 1, m, d], sums of the smallest 0, 1 .. r rows.
        low, high: [d], between which a liar's encoded numbers lie.
        ranks: (first, one past the last) of n that the pooling takes the mean of, from 0.
        missing: how many of the n are not there.
    """

    sums: Tensor
    low: Tensor
    high: Tensor
    ranks: tuple[int, int]
    missing: int

    @classmethod
    def of(
        cls, network: Any, pooling: Aggregator, probabilities: Tensor, missing: int
    ) -> Ranked | None:
        """Rows [m, r, K]; None where the pooling takes no such mean, so that no bound is known."""
        ranks = pooling.ranks(probabilities.shape[1] + missing)
        if ranks is None:
            return None
        low, high = (end.double() for end in reach(network.encoder))
        ordered = network.encoder(probabilities).sort(1).values.transpose(0, 1).double()
        sums = torch.cat([torch.zeros_like(ordered[:1]), ordered.cumsum(0)])
        return cls(sums, low, high, ranks, missing)

    def take(self, which: Tensor) -> Ranked:
        """Of some queries."""
        return replace(self, sums=self.sums[:, which])

    def box(self, f: int) -> tuple[Tensor, Tensor]:
        """Lowest and highest pooled numbers [m, d], float32, f rows being anything.

        At worst f of the largest rows, and all that are missing, are the lowest that there can be;
        and the other way round. As ``hansa.ensemble.certificates.bounds``, for any range.
        """
        (first, last), r = self.ranks, len(self.sums) - 1
        wild = f + self.missing
        below = min(last, wild) - min(first, wild)  # ranks that liars hold from below
        kept = self.sums[max(last - wild, 0)] - self.sums[max(first - wild, 0)]
        lowest = (kept + below * self.low) / (last - first)
        ends = [min(end, r - f) for end in (first, last)]
        above = (last - first) - (ends[1] - ends[0])
        kept = self.sums[f + ends[1]] - self.sums[f + ends[0]]
        highest = (kept + above * self.high) / (last - first)
        return lowest.float(), highest.float()


def reach(encoder: Any) -> tuple[Tensor, Tensor]:
    """Lowest and highest value [d] of each encoded number over all probabilities.

    A hidden unit is convex in the row, so it lies below the line through its values at the
    corners and above both 0 and its own argument; a sum of such lines is largest at a corner.
    """
    first, last = encoder[0], encoder[2]
    corners = first.weight.T + first.bias  # [K, h], what the ReLU gets of each one-hot row
    above = corners.relu()
    below = torch.where(corners.mean(0) > 0, corners, torch.zeros_like(corners))
    up, down = last.weight.clamp(min=0).T, last.weight.clamp(max=0).T  # [h, d]
    high = (above @ up + below @ down).max(0).values + last.bias
    low = (below @ up + above @ down).min(0).values + last.bias
    return low, high


def decided(decoder: Any, low: Tensor, high: Tensor, answered: Tensor) -> Tensor:
    """Bool [m]: the class int64 [m] has the largest logit for all pooled rows in the box [m, d]."""
    first, last = decoder[0], decoder[2]
    middle, radius = (low + high) / 2, (high - low) / 2
    centre = first(middle)
    spread = radius @ first.weight.abs().T
    a, b = centre - spread, centre + spread  # [m, h] before the ReLU
    gaps = last.weight[answered].unsqueeze(1) - last.weight  # [m, K, h]
    bias = last.bias[answered].unsqueeze(1) - last.bias
    # By intervals of the hidden units.
    positive, negative = gaps.clamp(min=0), gaps.clamp(max=0)
    plain = _dot(positive, a.relu()) + _dot(negative, b.relu()) + bias
    # By lines below and above each ReLU, and the exact least of what is then linear.
    slope = torch.where(a >= 0, 1.0, torch.where(b <= 0, 0.0, b / (b - a).clamp(min=1e-12)))
    offset = torch.where((a < 0) & (b > 0), -slope * a, torch.zeros_like(a))
    lower = torch.where(a >= 0, 1.0, torch.where(b <= 0, 0.0, (b > -a).to(a)))
    factor = positive * lower.unsqueeze(1) + negative * slope.unsqueeze(1)  # [m, K, h]
    inputs = factor @ first.weight  # [m, K, d]
    lines = _dot(inputs, middle) - _dot(inputs.abs(), radius)
    lines = lines + factor @ first.bias + _dot(negative, offset) + bias
    least = torch.maximum(plain, lines)
    least = least.scatter(1, answered.unsqueeze(1), torch.inf)
    return (least > _ROUNDING * (1 + last.bias.abs().max())).all(1)


def _dot(rows: Tensor, vector: Tensor) -> Tensor:
    """[m, K, h] and [m, h] -> [m, K]."""
    return (rows @ vector.unsqueeze(-1)).squeeze(-1)
