"""CHOCO-SGD: gossip on compressed differences to public copies (Koloskova et al., 2019).

Every node keeps a public copy xhat of itself, which its neighbours know, and the weighted sum s of
the public copies around it. A round: local steps; q = compress(x - xhat), sent; xhat += q,
s += w_ii q_i + sum_j w_ij q_j; x += gamma (s - xhat). In the order of DecentralizePy's code. The
mean over the nodes is preserved whatever gamma and the compressor; too large a gamma diverges.
Weights and neighbours are baked into s, so the graph must not change.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError, Diverged
from hansa.base.lazy import torch
from hansa.codec import Codec, Messages, Sparse, SparseRows
from hansa.engine import Block, Inbox, Network, Send
from hansa.engine.exchange.overlay import scatter_add_
from hansa.ensemble.aggregators import Mean
from hansa.learn.gossip.dpsgd import DPSGD
from hansa.learn.gossip.parts import largest, random_positions, some_numbers


@register("choco", paper="Koloskova et al.", year=2019, url="https://arxiv.org/abs/1902.00340")
class Choco(DPSGD):
    """CHOCO-SGD with any compressor: TopK, random positions, or a quantizer as the codec."""

    tolerates_loss: ClassVar[bool] = False
    loss_breaks: ClassVar[str] = (
        "adds differences to the public copies that its neighbours keep of it: one that is lost "
        "leaves them apart for good"
    )
    select: Literal["top", "random", "all"] = Field(
        "top", description="which numbers of the difference are sent"
    )
    share: float = Field(0.2, gt=0, le=1, description="part of the numbers that is sent")
    gamma: float = Field(0.4, gt=0, le=1, description="consensus step size")
    alarm: float | None = Field(
        10.0,
        gt=1,
        description="stop when a model is this many times farther from its public copy than at "
        "first; none = never",
    )
    codec: Codec = Field(Sparse(), description="how a compressed difference becomes bytes")

    def unprotected(self, way: str) -> str:
        if way == "local":
            return "keeps public copies that follow from the differences as it sends them"
        return super().unprotected(way)

    def check(self, network: Network) -> None:
        if network.changing:
            raise ConfigError(
                "",
                "choco",
                "keeps sums over fixed neighbours, and the topology changes",
                "a static topology, or jwins, topk or random_sampling",
            )
        if not isinstance(self.aggregator, Mean):
            problem = "keeps sums of its neighbours' public copies, so that it can only average"
            fix = "mean, or jwins, topk or random_sampling"
            raise ConfigError("aggregator", self.aggregator.name, problem, fix)
        super().check(network)

    def example(self) -> Messages:
        return super().example() if self.select == "all" else some_numbers()

    def start(self, block: Block) -> None:
        block.state["choco.first"] = torch.zeros(len(block), dtype=torch.float64)
        block.state["choco.public"] = torch.zeros_like(block.rows)
        block.state["choco.sum"] = torch.zeros_like(block.rows)

    def outgoing(self, block: Block, t: int) -> Send:
        difference = block.rows - block.state["choco.public"]
        first = block.state["choco.first"]
        unset = first == 0
        first[unset] = difference.double().norm(dim=1).cpu()[unset]
        size = difference.shape[1]
        message: Messages = difference
        if self.select != "all":
            count = np.full(len(block), round(self.share * size))
            if self.select == "top":
                positions = largest(difference, count)
            else:
                positions = random_positions(block, "choco", t, self.share)
            message = SparseRows.of(difference, positions)
        return Send(message, block.graph(t), self.codec, kind="choco", on_missing="wait")

    def incoming(self, block: Block, inbox: Inbox, t: int) -> None:
        public, total = block.state["choco.public"], block.state["choco.sum"]
        weights = block.mixing(block.graph(t), self.weights)
        heard = self.codec.through(inbox.sent)  # exactly what the neighbours decode
        own = weights.own(block.ids)
        if isinstance(heard, SparseRows):
            scatter_add_(public, heard)
            scatter_add_(total, heard, own)
        else:
            assert isinstance(heard, torch.Tensor)
            public += heard
            total += heard * torch.from_numpy(own).to(total).unsqueeze(1)
        inbox.add_(total, weights)
        block.rows.add_(total - public, alpha=self.gamma)
        self._watch(block)

    def _watch(self, block: Block) -> None:
        """Raise the alarm: public copies fall behind their models where gamma is too large."""
        if self.alarm is None:
            return
        first = block.state["choco.first"].numpy()
        distance = (block.rows - block.state["choco.public"]).double().norm(dim=1).cpu().numpy()
        bad = ~(distance <= self.alarm * first)
        if bad.any():
            worst = int(np.argmax(bad))
            raise Diverged(
                f"CHOCO diverges with gamma {self.gamma:g}: the model is {distance[worst]:.3g} "
                f"from its public copy, which was {first[worst]:.3g} in the first round; lower "
                "algorithm.gamma (hansa tune choco finds one), or raise algorithm.share",
                node=int(block.ids[worst]),
            )
