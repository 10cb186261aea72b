"""What a cloud makes of the updates of its edge servers: its settings, and its step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from hansa.base.lazy import torch
from hansa.codec import Codec, Dense
from hansa.engine.settings import Settings
from hansa.ensemble.aggregators import Aggregator, Mean, ModelAggregator
from hansa.learn.federated.server_optimizers import Average, ServerOptimizer

if TYPE_CHECKING:
    from torch import Tensor


class Cloud(Settings):
    """The upper level: between edge servers and the cloud."""

    weighting: Literal["clients", "uniform"] = Field(
        "clients",
        description="weight of an edge: what the updates of its clients weigh that are behind its "
        "own, or 1",
    )
    aggregator: ModelAggregator = Field(
        Mean(), description="what the cloud makes of the edges' updates"
    )
    server: ServerOptimizer = Field(Average(), description="the cloud's step")
    codec: Codec = Field(Dense(), description="how an edge's update becomes bytes")
    download: Codec = Field(Dense(), description="how the cloud's model becomes bytes")
    min_edges: int = Field(
        1, ge=1, description="edges with updates without which the cloud's round has failed"
    )
    on_failed_round: Literal["stop", "skip"] = Field(
        "stop", description="what too few edges lead to: the end, or the old model again"
    )

    @property
    def needed(self) -> int:
        """Edges without whose updates its round has failed."""
        return max(self.min_edges, self.aggregator.least)

    def step_(
        self,
        row: Tensor,
        updates: Tensor,
        weights: np.ndarray,
        parameters: int,
        slots: dict[str, Tensor],
    ) -> None:
        """Move the cloud's model by the edges' updates, in place.

        Args:
            row: [K], as far as it travels; its parameters come first.
            updates: [k, K], by ascending edge.
            weights: float64 [k].
            parameters: P, how many of the K numbers are parameters. The others are statistics,
                which are aggregated as they are.
            slots: the optimizer's state, [P] by name.
        """
        update = _aggregate(self.aggregator, updates[:, :parameters], weights)
        self.server.step_(row[:parameters], update, slots)
        if len(row) > parameters:
            row[parameters:] += _aggregate(self.aggregator, updates[:, parameters:], weights)


def _aggregate(aggregator: Aggregator, rows: Tensor, weights: np.ndarray) -> Tensor:
    state = aggregator.start(torch.zeros_like(rows[0]))
    aggregator.add(state, rows, weights)
    return aggregator.end(state)
