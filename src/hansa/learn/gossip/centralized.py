"""Centralized averaging: the upper bound, every node at the mean of all models each round.

The all-reduce is a reduction to node 0 and a broadcast from it, two exchanges a round, so it
costs 2 (n - 1) whole models: as many bytes as a ring all-reduce, but through one node. Where
models get lost on their way up, the mean is that of the others; a node that does not get the mean
keeps its own model.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.codec import Codec, Dense, whole_rows
from hansa.codec.codec import check_codec
from hansa.engine import Algorithm, Block, Network, Script, Send, star_to
from hansa.engine.exchange.aggregating import aggregate_
from hansa.ensemble.aggregators import Mean, ModelAggregator


@register("centralized")
class Centralized(Algorithm):
    """Local steps, then the exact average of all models through node 0."""

    uses_topology: ClassVar[bool] = False
    tolerates_loss: ClassVar[bool] = True
    aggregator: ModelAggregator = Field(Mean(), description="what node 0 makes of all models")
    codec: Codec = Field(Dense(), description="how a model becomes bytes")

    def hubs(self, clients: int) -> np.ndarray:
        return np.zeros(1, dtype=np.int64)

    def check(self, network: Network) -> None:
        check_codec(self.codec, torch.zeros(1, 4))
        if network.nodes < 2:
            raise ConfigError("", None, "needs at least 2 nodes", "set nodes: 2 or more")
        if network.nodes < self.aggregator.least:
            problem = f"needs {self.aggregator.least} models and there are {network.nodes}"
            raise ConfigError("aggregator", self.aggregator.name, problem, "more nodes, or mean")

    def round(self, block: Block, t: int) -> Script:
        self.local(block, t)
        up = star_to(0, block.nodes)
        inbox = yield Send(block.rows, up, self.codec, kind="reduce", on_missing="renormalise")
        aggregate_(inbox, block.rows, block.mixing(up, "uniform"), self.aggregator)
        down = up.transpose()
        inbox = yield Send(block.rows, down, self.codec, kind="broadcast", on_missing="skip")
        for k in np.flatnonzero(np.diff(inbox.indptr)):
            block.rows[k] = whole_rows(inbox.messages(int(k))[1])[0]
