"""A trained set network that answers, with any aggregator as its pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from hansa.base.lazy import torch, without_gradients
from hansa.ensemble.aggregators import Aggregator
from hansa.infer.robust import set_certificates
from hansa.infer.robust.score_aggregator import Lies, ScoreAggregator

if TYPE_CHECKING:
    from torch import Tensor


class PooledSet(ScoreAggregator):
    """ψ(z) = μ(A(ρ(z_1), …, ρ(z_n))), logits of the classes.

    Args:
        network: encoder ρ and decoder μ (``hansa.ensemble.networks.SetNetwork``), frozen.
        pooling: A.
    """

    learned: ClassVar[bool] = True

    def __init__(self, name: str, network: Any, pooling: Aggregator) -> None:
        self.name, self.network, self.pooling = name, network, pooling

    @property
    def least(self) -> int:
        """The pooling's."""
        return self.pooling.least

    def scores(self, probabilities: Tensor) -> Tensor:
        """Encode, pool, decode."""
        logits: Tensor = self.network.decoder(self.pool(self.network.encoder(probabilities)))
        return logits

    def pool(self, encoded: Tensor) -> Tensor:
        """[m, n, d] -> [m, d]."""
        return encoded.mean(1) if self.pooling.name == "mean" else self.pooling.many(encoded)

    def shares(self, scores: Tensor) -> Tensor:
        """Softmax."""
        return torch.softmax(scores, -1)

    def under(self, probabilities: Tensor, liars: Tensor, straight: bool = False) -> Lies:
        """As the base class says; rows that no liar sends are encoded once."""
        with torch.no_grad():
            encoded = self.network.encoder(probabilities)
        at = liars.unsqueeze(-1).expand(-1, -1, encoded.shape[-1])

        def scores(rows: Tensor) -> Tensor:
            whole = encoded.scatter(1, at, self.network.encoder(rows))
            if not straight:
                return self.network.decoder(self.pool(whole))
            mean = whole.mean(1)
            with torch.no_grad():
                gap = self.pool(whole) - mean
            return self.network.decoder(mean + gap)

        return scores

    @without_gradients
    def certified(self, probabilities: Tensor, f: int, missing: int = 0) -> Tensor:
        """By interval bounds through the decoder (see ``set_certificates``)."""
        return set_certificates.certified(self.network, self.pooling, probabilities, f, missing)

    @without_gradients
    def largest_f(self, probabilities: Tensor, missing: int = 0) -> Tensor:
        """By interval bounds through the decoder (see ``set_certificates``)."""
        return set_certificates.largest_f(self.network, self.pooling, probabilities, missing)
