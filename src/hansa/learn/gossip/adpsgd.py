"""AD-PSGD: gossip in pairs, each node at its own pace (Lian et al., 2018).

There are no rounds to wait for. A node copies its model, computes local steps from the copy, adds
their change to its model, which others may have averaged into meanwhile, and averages with one
random neighbour's current model: x_i, x_j <- (x_i + x_j) / 2. Then it starts again. The neighbour
is not held up: its own steps go on from the copy it made, so that they are stale, as in the paper.

The average needs no lock. Node i sends its model m_i; j answers with its model m_j of that moment
and moves by (m_i - m_j) / 2; i moves by (m_j - m_i) / 2 when the answer comes, whatever has
happened to it meanwhile. So the sum of all models stays as it is in any order of events, and where
nothing came in between both are at the plain average, to the bit. While i waits it answers others,
so that nobody waits in a circle and the paper's bipartite graphs are not needed.

In ``simulate`` averages happen one at a time, when i is done by the modelled clock (ties by
wake-ups, then id): the atomic averaging of the paper. What a run file calls a round is as many
wake-ups as nodes are present: fast nodes wake more often, but a round has as many local steps as
one of D-PSGD. After averaging a node also waits until the models have crossed the link, which the
paper hides behind computation: time is not flattered. A codec that loses something makes the mean
of the models drift a little. A node that is away when it is asked says so, and nothing happens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.codec import Codec, Dense, whole_rows
from hansa.codec.codec import check_codec
from hansa.engine import Asynchronous, Block, Network, Put, Script, Take
from hansa.engine.exchange.letter import Letter

ASK, ANSWER = "pair", "half"
LATEST = "adpsgd.latest"
"""The fact of a block that says when one of its nodes was last done."""


@register("adpsgd", paper="Lian et al.", year=2018, url="https://arxiv.org/abs/1710.06952")
class ADPSGD(Asynchronous):
    """Asynchronous D-PSGD: local steps, then an average with one neighbour, without waiting."""

    kinds: ClassVar[tuple[str, ...]] = (ASK, ANSWER)
    hears: ClassVar[tuple[str, ...]] = (ASK,)
    lacks: ClassVar[Mapping[str, str]] = {
        **Asynchronous.lacks,
        "aggregator": "averages in pairs, and of two rows none is the odd one out",
    }
    codec: Codec = Field(Dense(), description="how a model becomes bytes")

    def check(self, network: Network) -> None:
        check_codec(self.codec, torch.zeros(1, 4))
        if not network.graph(0).symmetric:
            raise ConfigError(
                "",
                "adpsgd",
                "two nodes average with each other, but this topology has one-way edges",
                "a topology in which hearing is mutual, such as regular",
            )

    def start(self, block: Block) -> None:
        n = len(block)
        block.state["adpsgd.copy"] = block.rows.clone()
        block.state["adpsgd.wakes"] = torch.zeros(n, dtype=torch.int64)
        block.state["adpsgd.last"] = torch.zeros(n, dtype=torch.float64)

    def due(self, node: Block, t: int) -> tuple[float, int]:
        wakes = int(node.state["adpsgd.wakes"].item())
        return super().due(node, wakes)[0], wakes

    def opening(self, block: Block, t: int) -> Iterator[tuple[int, Put]]:
        block.facts[LATEST] = float(block.state["adpsgd.last"].max())
        yield from ()

    def wake(self, node: Block, t: int) -> Script:
        done, wakes = self.due(node, t)
        now = self._now(node, done)
        last, time = node.state["adpsgd.last"], node.state["modelled_time"]
        time.add_(max(0.0, now - done))  # the time that it was away, if it was, has gone by
        last.fill_(now)
        partner = self._partner(node, t, wakes)
        self._work(node, t, wakes)
        if partner is not None:
            mine = node.rows.clone()
            to, at = np.array([partner]), np.array([[now]])
            yield Put(to, ASK, mine, self.codec, notes=at, at_once=True)
            answer = yield Take(ANSWER, self.codec, to, elements=mine.shape[1])
            if len(answer):
                theirs = whole_rows(answer.received)
                if torch.equal(node.rows, mine):  # nobody came in between
                    node.rows.add_(theirs).div_(2)
                else:
                    node.rows.add_((theirs - mine) / 2)
        node.state["adpsgd.copy"].copy_(node.rows)

    def hear(self, node: Block, t: int, letter: Letter) -> Script:
        """Answer, and average; a node is not held up by what others do."""
        who, time = np.array([letter.sender]), node.state["modelled_time"]
        before = time.item()
        here = bool(node.present(t)[0])
        if here:
            time.fill_(letter.note[0])  # both send at the same moment
        yield Put(who, ANSWER, node.rows if here else None, self.codec, at_once=True)
        asked = yield Take(ASK, self.codec, who, elements=node.rows.shape[1])
        time.fill_(before)
        if here:
            node.rows.add_(whole_rows(asked.received)).div_(2)

    def closing(self, block: Block, t: int) -> None:
        block.report["wakes"] = block.state["adpsgd.wakes"].numpy().astype(np.float64)

    def _now(self, node: Block, done: float) -> float:
        """The moment at which a node that was ``done`` then acts: no time goes backwards."""
        node.facts[LATEST] = max(node.facts[LATEST], done)
        return float(node.facts[LATEST])

    def _partner(self, node: Block, t: int, wakes: int) -> int | None:
        own = node.ids.item(0)
        others = node.graph(t).row(own)
        if not len(others):
            return None
        random = node.streams.own.numpy("adpsgd", own, wakes)
        return int(others[random.integers(len(others))])

    def _work(self, node: Block, t: int, wakes: int) -> None:
        """Local steps from the copy made when they began; their change is added to the model.

        Statistics of normalization layers are no steps that add up: they are as these steps saw
        them, and averaged next.
        """
        copy = node.state["adpsgd.copy"]
        model = node.rows.clone()
        node.rows.copy_(copy)
        node.train(t, draw=wakes)
        moved = node.rows.shape[1] - node.trainer.layout.statistics
        node.rows[:, :moved].add_(model[:, :moved] - copy[:, :moved])
        node.state["adpsgd.wakes"].add_(1)
