"""The local steps of differential privacy: what a node's own numbers come to, and its noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.engine.settings import TrainSettings
from hansa.engine.training.batches import Batching, PoissonBatching
from hansa.engine.training.gradients import Passes
from hansa.engine.training.per_example import PerExample
from hansa.privacy import accounting
from hansa.privacy.example import ExamplePrivacy

if TYPE_CHECKING:
    from torch import Tensor

_NO_END = 1 << 62


@dataclass(frozen=True)
class Terms:
    """What privacy means for a node.

    Attributes:
        rate: chance of one of its examples to be drawn at a step, as it is accounted.
        noise: its noise multiplier.
        cost: what one of its steps costs, [orders] of the accountant's.
        most: steps that it may take.
    """

    rate: float
    noise: float
    cost: np.ndarray
    most: int


class PrivateSteps:
    """DP-SGD's part of local work, for nodes with so many examples each.

    Args:
        rounds: of the run, for which noise is found where an epsilon is asked for.
    """

    def __init__(self, privacy: ExamplePrivacy, settings: TrainSettings, rounds: int) -> None:
        self.privacy, self.settings, self.rounds = privacy, settings, rounds
        self._terms: dict[int, Terms] = {}

    @property
    def batching(self) -> Batching:
        """Batches as the accountant takes them to be drawn."""
        return PoissonBatching(self.settings.batch_size, drop_last=False)

    def terms(self, size: int) -> Terms:
        """What privacy means for a node with so many examples."""
        if size not in self._terms:
            privacy = self.privacy
            rate = privacy.counted(privacy.rate(size, self.settings.batch_size))
            asked = int(self.settings.asked(np.array([size]))[0]) * self.rounds
            noise = privacy.multiplier(rate, asked)
            cost, limit = privacy.cost(noise, rate), privacy.limit
            most = _NO_END if limit is None else accounting.most(cost, privacy.risk, limit)
            self._terms[size] = Terms(rate, noise, cost, most)
        return self._terms[size]

    def affordable(self, sizes: np.ndarray, done: np.ndarray) -> np.ndarray:
        """Steps that nodes may still take, int64 [k], who have taken ``done`` [k]."""
        most = [self.terms(size).most if size else 0 for size in sizes.tolist()]
        return np.maximum(np.array(most, dtype=np.int64) - done, 0)

    def epsilons(self, sizes: np.ndarray, done: np.ndarray) -> np.ndarray:
        """What nodes have spent with so many steps, float64 [k]; NaN for who has no examples."""
        pairs, which = np.unique(np.stack([sizes, done]), axis=1, return_inverse=True)
        delta = self.privacy.risk
        spent = [
            accounting.epsilon(count * self.terms(size).cost, delta)
            if size and count
            else (0.0 if size else np.nan)
            for size, count in pairs.T.tolist()
        ]
        return np.array(spent, dtype=np.float64)[which.ravel()]

    def gradients(
        self,
        passes: Passes,
        rows: Tensor,
        x: Tensor,
        y: Tensor,
        lengths: Tensor | None,
        grads: Tensor,
        sizes: np.ndarray,
        randoms: list[np.random.Generator],
    ) -> Tensor:
        """Fill ``grads`` [k, P] with noised mean gradients; mean losses [k].

        Args:
            rows, x, y, lengths: as for :meth:`PerExample.clipped_sums`.
            sizes: int64 [k], examples of each node.
            randoms: each node's own generator of noise.
        """
        if "per example" not in passes.kept:
            passes.kept["per example"] = PerExample(passes)
        seen: PerExample = passes.kept["per example"]
        clip = self.privacy.bound
        losses = seen.clipped_sums(rows, x, y, lengths, clip, grads)
        for grad, size, random in zip(grads, sizes.tolist(), randoms, strict=True):
            if noise := self.terms(size).noise:
                drawn = random.standard_normal(grads.shape[1], dtype=np.float32)
                grad.add_(torch.from_numpy(drawn).to(grad.device), alpha=noise * clip)
            grad.div_(min(size, self.settings.batch_size))
        return losses
