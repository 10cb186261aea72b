"""JWINS: just what is needed sharing (Dhasade et al., 2023, ICDCS).

The model is moved to the wavelet domain, T(x). Numbers there are ranked by the change that they
have gathered since they were last sent, V + T(x - x_start); each node draws each round what share
of them it sends; values of T(x) travel, and receivers put them over their own T(x) and average.
Afterwards V takes up the round's whole change, T(x_new - x_start). No state about neighbours is
kept, so the graph may change. Code-faithful: as in DecentralizePy, right after sharing V holds the
round's change of the shared numbers too. Statistics of normalization layers stay as they are,
behind the coefficients: a variance put together from parts of several nodes may be below zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.codec import Codec, Lossless, Messages, Sparse, SparseRows
from hansa.codec.wavelet import transform
from hansa.engine import Block, Network, Script, Send
from hansa.engine.exchange.aggregating import aggregate_
from hansa.learn.gossip.dpsgd import DPSGD
from hansa.learn.gossip.parts import clear_, largest, some_numbers

if TYPE_CHECKING:
    from torch import Tensor

PUBLISHED = (0.10, 0.15, 0.20, 0.25, 0.30, 0.40, 1.00)
"""The cut-offs of the published configurations, drawn uniformly: 34.3 % on average."""


@register("jwins", paper="Dhasade et al.", year=2023, url="https://arxiv.org/abs/2306.04377")
class JWINS(DPSGD):
    """D-PSGD that sends wavelet coefficients which changed much, a random share each round."""

    cutoffs: tuple[float, ...] = Field(
        PUBLISHED, description="shares of the coefficients that a node may send"
    )
    probabilities: tuple[float, ...] | None = Field(
        None, description="how likely each cut-off is; none = equally"
    )
    wavelet: str | None = Field(
        "sym2", description="a discrete wavelet of PyWavelets; none = the plain model (ablation)"
    )
    levels: int = Field(4, ge=1, description="levels of the wavelet transform")
    accumulation: bool = Field(
        True, description="rank by the change since a coefficient was sent (off: this round's)"
    )
    whole_above: float = Field(
        0.5, gt=0, le=1, description="cut-offs from here on send everything, without positions"
    )
    codec: Codec = Field(
        Sparse(values=Lossless()),
        description="how coefficients become bytes; by default without loss",
    )

    def unprotected(self, way: str) -> str:
        if way == "local":
            return "sends parts of models, and which parts they are tells of the data"
        return super().unprotected(way)

    def check(self, network: Network) -> None:
        super().check(network)
        if not self.cutoffs or not all(0 < c <= 1 for c in self.cutoffs):
            raise ConfigError("cutoffs", self.cutoffs, "must be shares in (0, 1]", "[0.1, 0.4, 1]")
        if self.probabilities is None:
            return
        if len(self.probabilities) != len(self.cutoffs) or min(self.probabilities) < 0:
            raise ConfigError(
                "probabilities",
                self.probabilities,
                f"must be one non-negative number for each of the {len(self.cutoffs)} cut-offs",
                f"{len(self.cutoffs)} numbers that sum to 1, or none",
            )
        total = sum(self.probabilities)
        if not abs(total - 1) <= 1e-8:
            raise ConfigError(
                "probabilities", self.probabilities, f"sum to {total:g}", "let them sum to 1"
            )

    def example(self) -> Messages:
        return some_numbers()

    def start(self, block: Block) -> None:
        size = self._forward(block, block.rows[:1]).shape[1]
        if self.accumulation:
            block.state["jwins.accumulated"] = torch.zeros(len(block), size)

    def round(self, block: Block, t: int) -> Script:
        before = block.rows.clone()
        self.local(block, t)
        coefficients = self._forward(block, block.rows)
        scores = self._forward(block, block.rows - before)
        accumulated = block.state.get("jwins.accumulated")
        if accumulated is not None:
            scores += accumulated
        part = SparseRows.of(coefficients, largest(scores, self._counts(block, t, scores)))
        graph = self.graph(block, t)
        inbox = yield Send(part, graph, self.codec, kind="jwins")
        aggregate_(inbox, coefficients, block.mixing(graph, self.weights), self.aggregator)
        block.rows.copy_(self._inverse(block, coefficients))
        if accumulated is not None:
            clear_(accumulated, part)
            accumulated += self._forward(block, block.rows - before)

    def _counts(self, block: Block, t: int, scores: Tensor) -> np.ndarray:
        """How many coefficients each node sends in round t."""
        drawn = [
            block.streams.own.numpy("jwins", int(i), t).choice(self.cutoffs, p=self.probabilities)
            for i in block.ids
        ]
        shares = np.where(np.array(drawn) >= self.whole_above, 1.0, drawn)
        return np.rint(shares * scores.shape[1]).astype(np.int64)

    def _forward(self, block: Block, rows: Tensor) -> Tensor:
        """Coefficients of rows [k, D], and behind them the statistics as they are."""
        if self.wavelet is None:
            return rows.to("cpu", copy=True)
        size = rows.shape[1] - block.trainer.layout.statistics
        coefficients = transform(size, self.wavelet, self.levels).forward(rows[:, :size])
        if size == rows.shape[1]:
            return coefficients
        return torch.cat([coefficients, rows[:, size:].to(coefficients.device)], dim=1)

    def _inverse(self, block: Block, coefficients: Tensor) -> Tensor:
        if self.wavelet is None:
            return coefficients
        size = block.rows.shape[1] - block.trainer.layout.statistics
        domain = transform(size, self.wavelet, self.levels)
        rows = domain.inverse(coefficients[:, : domain.coefficients])
        if size == block.rows.shape[1]:
            return rows
        return torch.cat([rows, coefficients[:, domain.coefficients :]], dim=1)
