"""Whether liars can change what a set network answers: bounds through its pooling and decoder.

Whatever probabilities a liar sends, each encoded number lies within the encoder's range over the
simplex (:func:`reach`). The pooling's certificate (``hansa.ensemble.certificates``) then gives the
lowest and highest pooled number, and the decoder's logit differences are bounded below over that
box, by intervals (Gowal et al., 2018) and by a linear relaxation of the ReLU (Zhang et al., 2018,
CROWN), whichever says more. Sound, not exact: what is not certified may be safe all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hansa.base.lazy import torch
from hansa.ensemble import certificates
from hansa.ensemble.aggregators import Aggregator

if TYPE_CHECKING:
    from torch import Tensor

_ROUNDING = 1e-5
"""Of a difference of logits, in float32: less is no certificate."""


def certified(
    network: Any, pooling: Aggregator, probabilities: Tensor, f: int, missing: int = 0
) -> Tensor:
    """Bool [m]: whether the class is the same whatever f of the rows [m, r, K] are replaced by."""
    box = pooled_box(network, pooling, probabilities, f, missing)
    if box is None:
        return torch.zeros(len(probabilities), dtype=torch.bool)
    low, high = box
    answered = network.decoder((low + high) / 2).argmax(-1)  # any class but one fails below
    return decided(network.decoder, low, high, answered)


def largest_f(network: Any, pooling: Aggregator, probabilities: Tensor, missing: int = 0) -> Tensor:
    """The largest f certified, int64 [m]; -1 where none is. No more than liars can be outvoted."""
    members = probabilities.shape[1] + missing
    largest = torch.full((len(probabilities),), -1)
    left = torch.arange(len(probabilities))
    for f in range((members - 1) // 2 + 1):
        if not len(left) or f > probabilities.shape[1]:
            break
        left = left[certified(network, pooling, probabilities[left], f, missing)]
        largest[left] = f
    return largest


def pooled_box(
    network: Any, pooling: Aggregator, probabilities: Tensor, f: int, missing: int
) -> tuple[Tensor, Tensor] | None:
    """Lowest and highest pooled numbers [m, d]; None where no bound of the pooling is known."""
    if not pooling.by_number:
        return None  # a bound would have to be known of encoded rows, which are no probabilities
    encoded = network.encoder(probabilities)
    low, high = reach(network.encoder)
    span = (high - low).clamp(min=torch.finfo(low.dtype).eps)
    # Poolings by number move and stretch with their rows, and bounds are known of rows in 0..1.
    box = certificates.bounds(pooling, ((encoded - low) / span).clamp(0, 1), f, missing)
    return None if box is None else ((box[0] * span + low).to(low), (box[1] * span + low).to(low))


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
