"""Random sampling: send numbers of the model at random positions (Dhasade et al., 2023).

The positions follow from a seed, which is all that is sent of them. Each number is taken with the
same probability, so that the size of a message varies a little.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.lazy import torch
from hansa.codec import Codec, Messages, Seeded, seeded_rows
from hansa.engine import Block, Inbox, Send
from hansa.engine.exchange.aggregating import aggregate_
from hansa.learn.gossip.dpsgd import DPSGD


@register(
    "random_sampling", paper="Dhasade et al.", year=2023, url="https://arxiv.org/abs/2304.08322"
)
class RandomSampling(DPSGD):
    """D-PSGD that sends a random share of the model, its positions as a seed."""

    share: float = Field(0.1, gt=0, le=1, description="probability of each number to be sent")
    codec: Codec = Field(Seeded(), description="how a part of a model becomes bytes")

    def unprotected(self, way: str) -> str:
        if way == "local":
            return "sends parts of models, and noise is for whole rows"
        return super().unprotected(way)

    def example(self) -> Messages:
        return seeded_rows(torch.zeros(1, 4), np.array([1], dtype=np.uint64), 0.5)

    def outgoing(self, block: Block, t: int) -> Send:
        seeds = [block.streams.own.integer("random_sampling", int(i), t) for i in block.ids]
        part = seeded_rows(block.rows, np.array(seeds, dtype=np.uint64), self.share)
        return Send(part, self.graph(block, t), self.codec, kind="random")

    def incoming(self, block: Block, inbox: Inbox, t: int) -> None:
        weights = block.mixing(self.graph(block, t), self.weights)
        aggregate_(inbox, block.rows, weights, self.aggregator)
