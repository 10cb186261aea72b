"""TopK: send only the numbers of the model that changed most (Dhasade et al., 2023).

A number's importance is the magnitude of its change over the round's local steps; with
accumulation, of its change since it was last sent. Values of the *model* are sent, not changes.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.codec import Codec, Messages, Sparse, SparseRows
from hansa.engine import Block, Script, Send
from hansa.engine.exchange.aggregating import aggregate_
from hansa.learn.gossip.dpsgd import DPSGD
from hansa.learn.gossip.parts import clear_, largest, some_numbers


@register("topk", paper="Dhasade et al.", year=2023, url="https://arxiv.org/abs/2304.08322")
class TopK(DPSGD):
    """D-PSGD that sends the share of the model that changed most."""

    share: float = Field(0.1, gt=0, le=1, description="part of the numbers that is sent")
    accumulation: bool = Field(False, description="rank by the change since a number was sent")
    codec: Codec = Field(Sparse(), description="how a part of a model becomes bytes")

    def unprotected(self, way: str) -> str:
        if way == "local":
            return "sends parts of models, and which parts they are tells of the data"
        return super().unprotected(way)

    def example(self) -> Messages:
        return some_numbers()

    def start(self, block: Block) -> None:
        if self.accumulation:
            block.state["topk.accumulated"] = torch.zeros_like(block.rows)

    def round(self, block: Block, t: int) -> Script:
        before = block.rows.clone()
        self.local(block, t)
        change = block.rows - before
        accumulated = block.state.get("topk.accumulated")
        scores = change if accumulated is None else accumulated + change
        count = round(self.share * block.rows.shape[1])
        part = SparseRows.of(block.rows, largest(scores, np.full(len(block), count)))
        graph = self.graph(block, t)
        inbox = yield Send(part, graph, self.codec, kind="topk")
        if accumulated is not None:
            clear_(accumulated, part)
        aggregate_(inbox, block.rows, block.mixing(graph, self.weights), self.aggregator)
        if accumulated is not None:
            accumulated += block.rows - before
