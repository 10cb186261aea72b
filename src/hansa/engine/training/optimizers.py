"""Optimizers over rows: one call is one step of every node at once.

The common rules act element by element, so a step on stacked rows [n, P] is exactly n steps of n
optimizers. They are written here, and not taken from ``torch.optim``, because their state must be
named tensors [n, ...] of the block (saved, split over workers) and each node counts its own steps
(in some algorithms only part of the nodes train in a round). Tests hold them to ``torch.optim``.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydantic import Field

from hansa.base.component import Component, register
from hansa.base.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


class Guessed(NamedTuple):
    """What a rule did to k nodes after their last gradient step.

    Attributes:
        number: float64 [k], steps without a gradient.
        effective: float64 [k], what they add to :meth:`Optimizer.effective_steps`.
    """

    number: np.ndarray
    effective: np.ndarray


class Optimizer(Component, kind="optimizer"):
    """Turns gradients into steps."""

    lr: float = Field(0.05, gt=0, description="learning rate")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty")

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the state that the rule keeps, each a tensor [n, P] that starts at zero."""
        return ()

    @abstractmethod
    def step_(
        self, rows: Tensor, grads: Tensor, slots: dict[str, Tensor], count: Tensor, lr: float
    ) -> None:
        """Take one step in place.

        Args:
            rows: [k, P] parameters.
            grads: [k, P] gradients; may be overwritten.
            slots: the rule's state, each [k, P], updated in place.
            count: int64 [k], which step of its own each node takes, from 1.
            lr: this round's learning rate.
        """

    @property
    def finishes(self) -> bool:
        """Whether :meth:`finish_` does anything."""
        return False

    @property
    def needs_start(self) -> bool:
        """Whether :meth:`finish_` needs the rows as they were before the first step."""
        return False

    def finish_(
        self,
        rows: Tensor,
        grads: Tensor,
        slots: dict[str, Tensor],
        start: Tensor | None,
        steps: np.ndarray,
        count: Tensor,
        lr: float,
        asked: np.ndarray,
    ) -> Guessed | None:
        """Once a round after the last gradient step of k nodes, in place, without a gradient.

        Args:
            rows: [k, P] parameters.
            grads: [k, P] each node's last gradient, as the last :meth:`step_` left it.
            slots: as for :meth:`step_`.
            start: [k, P] rows before the round's first step, if :attr:`needs_start`.
            steps: int64 [k], gradient steps that each node took in this round.
            count: int64 [k], which step of its own each node took last.
            lr: this round's learning rate.
            asked: int64 [k], gradient steps that the round asked each node for.
        """
        return None

    def effective_steps(self, steps: np.ndarray) -> np.ndarray:
        """L1 norm of the weights that a round's gradients have in its displacement, over lr.

        FedNova's normaliser (Wang et al., NeurIPS 2020) for a round of ``steps`` [k] gradient
        steps that begins without state: float64 [k]. Adaptive rules have no such weights; for
        them a step counts as one.
        """
        return np.asarray(steps, dtype=np.float64)


@register("sgd")
class SGD(Optimizer):
    """Stochastic gradient descent with momentum, weight decay and Nesterov's variant."""

    momentum: float = Field(0.0, ge=0, lt=1, description="share of the last step that goes on")
    nesterov: bool = Field(False, description="look ahead along the momentum")

    @property
    def slots(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    def step_(
        self, rows: Tensor, grads: Tensor, slots: dict[str, Tensor], count: Tensor, lr: float
    ) -> None:
        if self.weight_decay:
            grads.add_(rows, alpha=self.weight_decay)
        if self.momentum:
            velocity = slots["momentum"].mul_(self.momentum).add_(grads)
            grads = grads.add_(velocity, alpha=self.momentum) if self.nesterov else velocity
        rows.add_(grads, alpha=-lr)

    def effective_steps(self, steps: np.ndarray) -> np.ndarray:
        """With momentum beta a gradient's weight in the buffer is c <- beta c + 1, A <- A + c."""
        beta, u = self.momentum, np.asarray(steps, dtype=np.float64)
        if not beta:
            return u
        ahead = 1 if self.nesterov else 0  # Nesterov's weights are those of one step later
        u = u + ahead
        return (u - beta * (1 - beta**u) / (1 - beta)) / (1 - beta) - ahead


@register("adam", paper="Kingma and Ba", year=2015, url="https://arxiv.org/abs/1412.6980")
class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015), the L2 penalty in the gradient."""

    lr: float = Field(1e-3, gt=0, description="learning rate")
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of the mean gradient")
    beta2: float = Field(0.999, ge=0, lt=1, description="decay of the mean squared gradient")
    eps: float = Field(1e-8, gt=0, description="added to the denominator")

    @property
    def slots(self) -> tuple[str, ...]:
        return ("mean", "square")

    def step_(
        self, rows: Tensor, grads: Tensor, slots: dict[str, Tensor], count: Tensor, lr: float
    ) -> None:
        if self.weight_decay:
            self._decay_(rows, grads, lr)
        mean = slots["mean"].lerp_(grads, 1 - self.beta1)
        square = slots["square"].mul_(self.beta2).addcmul_(grads, grads, value=1 - self.beta2)
        steps = count.to(torch.float64).unsqueeze(1)
        correction1 = 1 - self.beta1**steps
        correction2 = (1 - self.beta2**steps).sqrt()
        denominator = (square.sqrt() / correction2.to(rows)).add_(self.eps)
        rows.sub_(mean / denominator * (lr / correction1).to(rows))

    def _decay_(self, rows: Tensor, grads: Tensor, lr: float) -> None:
        grads.add_(rows, alpha=self.weight_decay)


@register("adamw", paper="Loshchilov and Hutter", year=2019, url="https://arxiv.org/abs/1711.05101")
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    weight_decay: float = Field(0.01, ge=0, description="share of the weights shed, times lr")

    def _decay_(self, rows: Tensor, grads: Tensor, lr: float) -> None:
        rows.mul_(1 - lr * self.weight_decay)


def clip_norm_(grads: Tensor, limit: float) -> None:
    """Scale each row of ``grads`` [k, P] down to an L2 norm of at most ``limit``."""
    norms = torch.linalg.vector_norm(grads, dim=1, keepdim=True)
    grads.mul_((limit / (norms + 1e-6)).clamp_(max=1.0))
