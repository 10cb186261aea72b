"""A weighted mean of frozen models that answers with gradients, and weights that can be moved."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import Lazy, nn, torch, without_gradients
from hansa.base.lazy import functional as F
from hansa.ensemble.combine import weighted_logits
from hansa.ensemble.ensemble import Scale, on_scale

if TYPE_CHECKING:
    from torch import Tensor

networks = Lazy("hansa.ensemble.networks")  # they need torch

_SOFT = 4.0  # temperature of the probabilities whose random sum gives a direction


class Mixture:
    """Frozen models with one weight each: sum_i w_i z_i / sum_i w_i. Gradients reach the inputs.

    Args:
        members: they are copied.
        device: where the copies work.
    """

    def __init__(self, members: Sequence[nn.Module], device: torch.device | str = "cpu") -> None:
        self.members = [copy.deepcopy(m).to(device).eval().requires_grad_(False) for m in members]
        self.weights = torch.full((len(members),), 1 / len(members), device=device)

    def scores(self, x: Tensor) -> Tensor:
        """Each member's: [b, ...] -> [n, b, C]."""
        return torch.stack([member(x) for member in self.members])

    @without_gradients
    def __call__(self, x: Tensor, scale: Scale = "logits", /) -> Tensor:
        """What the teacher answers, [b, C]."""
        return on_scale(mixed(self.scores(x), self.weights), scale)


def mixed(scores: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean of scores [n, b, C] by weights [n]: [b, C]."""
    share = weights / weights.sum()
    return weighted_logits(scores, share.unsqueeze(1).expand(-1, scores.shape[2]))


def moved(weights: Tensor, scores: Tensor, labels: Tensor, step: float) -> Tensor:
    """Weights [n], each a step against the sign of the gradient of the mixture's cross-entropy.

    Args:
        scores: [n, m, C] of the members on labelled inputs.

    Returns:
        Weights within 0 and 1, not all 0.
    """
    leaf = weights.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(mixed(scores, leaf), labels), leaf)
    new = (weights - step * slope.sign()).clamp(0, 1)
    return new if new.sum() > 0 else weights


def perturbed(x: Tensor, teacher: Mixture, reach: Tensor, rng: np.random.Generator) -> Tensor:
    """Inputs moved by +- ``reach``, where a random sum of the teacher's probabilities grows.

    (Output diversified sampling, Tashiro et al., NeurIPS 2020.)
    """
    leaf = x.detach().clone().requires_grad_()
    soft = torch.softmax(mixed(teacher.scores(leaf), teacher.weights) / _SOFT, -1)
    direction = torch.from_numpy(rng.uniform(-1, 1, tuple(soft.shape))).to(soft)
    (slope,) = torch.autograd.grad((direction * soft).sum(), leaf)
    return x + reach * slope.sign()
