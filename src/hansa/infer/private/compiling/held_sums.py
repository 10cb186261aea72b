"""Integer weights whose sums stay within an accumulator, whatever the inputs are.

A2Q+ (Colbert et al., 2024, arXiv 2401.10432, section 3) bounds weights that are centred at zero by
|q|_1 <= (2^P - 2) / (2^N - 1) for sums of P bits of unsigned inputs of N bits, and projects real
weights onto that ball. Held apart, the sums of positive and of negative weights need no centring:
each may reach (2^(P-1) - 1) / (2^N - 1), which of centred weights is the same bound. That is the
constraint here, together with the bias, with signed inputs, and with several inputs of one sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hansa.base.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

_BISECTIONS = 40


def norm_bound(accumulator: int, inputs: int) -> float:
    """A2Q+'s bound of the l1 norm of weights that are centred at zero.

    Args:
        accumulator: bits of the sum, signed.
        inputs: bits of an input, unsigned.
    """
    return (2.0**accumulator - 2) / (2.0**inputs - 1)


@dataclass(frozen=True, eq=False)
class Part:
    """The weights of one term, in units of an integer.

    Attributes:
        weights: float64 [C_out, ...], not rounded.
        low, high: of the inputs that they meet; low <= 0 <= high.
        fixed: whether they are as they have to be.
    """

    weights: Tensor
    low: int
    high: int
    fixed: bool = False


def held(parts: Sequence[Part], bias: Tensor, accumulator: int) -> list[Tensor] | None:
    """The integers nearest to the weights with which no sum leaves ``accumulator`` bits.

    Each channel's weights are moved onto the ball (a soft threshold, the Euclidean projection) if
    they lie outside, and rounded so that they stay in it.

    Args:
        bias: float64 [C_out] of whole numbers.

    Returns:
        float64 of whole numbers, as ``parts``; None where the bias or fixed weights alone are more.
    """
    flat = [part.weights.reshape(len(part.weights), -1) for part in parts]
    high = torch.cat([torch.full_like(w, p.high) for w, p in zip(flat, parts, strict=True)], 1)
    low = torch.cat([torch.full_like(w, -p.low) for w, p in zip(flat, parts, strict=True)], 1)
    free = torch.cat([torch.full_like(w, not p.fixed) for w, p in zip(flat, parts, strict=True)], 1)
    whole = torch.cat(flat, 1)
    budget = 2.0 ** (accumulator - 1) - 1 - bias.abs()
    kept = whole.round() * (1 - free)
    most_up, most_down = _reach(kept, low, high)
    if bool((torch.maximum(most_up, most_down) > budget).any()):
        return None
    made = (whole * free).round()
    up, down = _reach(made + kept, low, high)
    over_up, over_down = up > budget, down > budget
    sides = [(1, over_up), (-1, over_down)]
    if bool(low.any()):  # each weight counts on both sides
        sides = [(0, over_up | over_down)]
    for sign, over in sides:
        if bool(over.any()):
            side = whole.sign() == sign if sign else torch.ones_like(whole, dtype=torch.bool)
            place = side & over.unsqueeze(1) & (free > 0)
            made = _fitted(whole, made, kept, place, sign, (low, high), budget)
    made = made + kept
    out, start = [], 0
    for part, w in zip(parts, flat, strict=True):
        out.append(made[:, start : start + w.shape[1]].reshape(part.weights.shape))
        start += w.shape[1]
    return out


def _reach(weights: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The largest and the negated least sum [C_out]."""
    above, below = weights.clamp_min(0), (-weights).clamp_min(0)
    return (above * high + below * low).sum(1), (above * low + below * high).sum(1)


def _fitted(
    whole: Tensor,
    made: Tensor,
    kept: Tensor,
    place: Tensor,
    sign: int,
    ends: tuple[Tensor, Tensor],
    budget: Tensor,
) -> Tensor:
    """The weights in ``place`` moved towards zero until their side (0: both) of the sums fits."""
    low, high = ends
    both = sign == 0
    size = torch.maximum(low, high) / torch.maximum(low, high).max()
    amount = whole.abs()

    def at(threshold: Tensor) -> Tensor:
        return (amount - threshold.unsqueeze(1) * size).clamp_min(0) * whole.sign()

    def reach(weights: Tensor) -> Tensor:
        up, down = _reach(weights + kept, low, high)
        return torch.maximum(up, down) if both else up if sign > 0 else down

    least = torch.zeros(len(whole), dtype=whole.dtype)
    most = (amount / size.clamp_min(1e-12)).amax(1)
    for _ in range(_BISECTIONS):
        middle = (least + most) / 2
        inside = reach(torch.where(place, at(middle), made)) <= budget
        least, most = torch.where(inside, least, middle), torch.where(inside, middle, most)
    target = at(most)
    cut = torch.where(place, target.trunc(), made)
    # What truncation has left of the budget goes to those that were cut by more than a half.
    left = budget - reach(cut)
    cost = torch.where(place, torch.maximum(low, high), torch.zeros_like(high))
    lost = torch.where(place, (target - cut).abs(), torch.zeros_like(target))
    order = lost.argsort(dim=1, descending=True, stable=True)
    paid = cost.gather(1, order).cumsum(1) <= left.unsqueeze(1)
    chosen = torch.zeros_like(place).scatter(1, order, paid) & (lost >= 0.5) & place
    return torch.where(chosen, cut + whole.sign(), cut)
