"""AD-PSGD: gossip in pairs, each node at its own pace (Lian et al., 2018).

There are no rounds to wait for. A node copies its model, computes local steps from the copy, adds
their change to its model, which others may have averaged into meanwhile, and averages with one
random neighbour's current model: x_i, x_j <- (x_i + x_j) / 2. Then it starts again. The neighbour
is not held up: its own steps go on from the copy it made, so that they are stale, as in the paper.

The modelled clock says who is done when. Averages happen one at a time in that order (ties by
wake-ups, then id), the atomic averaging of the paper, so its bipartite graphs against deadlock are
not needed. What a run file calls a round is here as many wake-ups as nodes are present: fast nodes
wake more often, but a round has as many local steps as one of D-PSGD. After averaging a node also
waits until the models have crossed the link, which the paper hides behind computation: time is
not flattered. A codec that loses something makes the mean of the models drift a little.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError, RunError
from hansa.base.lazy import torch
from hansa.codec import Codec, Dense, whole_rows
from hansa.engine import Algorithm, Block, Network, Script, Send
from hansa.engine.block import TRAIN_LOSS
from hansa.learn.gossip.parts import check_codec
from hansa.topology import Graph


@register("adpsgd", paper="Lian et al.", year=2018, url="https://arxiv.org/abs/1710.06952")
class ADPSGD(Algorithm):
    """Asynchronous D-PSGD: local steps, then an average with one neighbour, without waiting."""

    own_pace: ClassVar[bool] = True
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

    def round(self, block: Block, t: int) -> Script:
        if len(block) < block.nodes or block.clock is None:
            raise RunError("adpsgd needs all nodes in one block, and a clock")
        present = np.flatnonzero(block.present(t))
        graph = block.graph(t)
        losses: list[list[float]] = [[] for _ in range(len(block))]
        for _ in present:
            i = self._next(block, present)
            j = self._partner(block, graph, i)
            self._work(block, t, i)
            if TRAIN_LOSS in block.report:
                losses[i].append(float(block.report[TRAIN_LOSS][i]))
            yield from self._average(block, i, j)
        block.report[TRAIN_LOSS] = np.array([np.mean(x) if x else np.nan for x in losses])
        block.report["wakes"] = block.state["adpsgd.wakes"].numpy().astype(np.float64)

    def _next(self, block: Block, present: np.ndarray) -> int:
        """Who is done first; the time that it was away, if it was, has gone by."""
        assert block.clock is not None  # see round
        wakes = block.state["adpsgd.wakes"].numpy()
        done = block.clock.finish(block, self._planned(block, wakes))
        i = int(present[np.lexsort((wakes[present], done[present]))[0]])
        now = float(block.state["adpsgd.last"].max())
        block.state["modelled_time"][i] += max(0.0, now - done[i])
        block.state["adpsgd.last"][i] = max(now, done[i])
        return i

    def _planned(self, block: Block, wakes: np.ndarray) -> np.ndarray:
        """Examples that each node takes when it wakes next, int64 [n]."""
        assert block.clock is not None  # see round
        pace = block.clock.pace(block, block.ids) if block.clock.modelled else None
        planned = np.zeros(len(block), dtype=np.int64)
        for draw in np.unique(wakes).tolist():
            who = np.flatnonzero(wakes == draw)
            sizes, own = block.own_sizes[who], None if pace is None else pace[who]
            ids, streams = block.ids[who], block.streams
            planned[who] = block.trainer.planned(ids, sizes, streams, draw, own)[1]
        return planned

    def _partner(self, block: Block, graph: Graph, i: int) -> int | None:
        wakes = int(block.state["adpsgd.wakes"][i])
        others = graph.row(i)
        if not len(others):
            return None
        return int(others[block.streams.own.numpy("adpsgd", i, wakes).integers(len(others))])

    def _work(self, block: Block, t: int, i: int) -> None:
        """Local steps from the copy made when they began; their change is added to the model.

        Statistics of normalization layers are no steps that add up: they are as these steps saw
        them, and averaged next.
        """
        copy, wakes = block.state["adpsgd.copy"], block.state["adpsgd.wakes"]
        model = block.rows[i].clone()
        block.rows[i] = copy[i]
        block.train(t, who=np.array([i]), draw=int(wakes[i]))
        moved = slice(0, block.rows.shape[1] - block.trainer.layout.statistics)
        block.rows[i, moved] += model[moved] - copy[i, moved]
        wakes[i] += 1

    def _average(self, block: Block, i: int, j: int | None) -> Script:
        """Both at the mean of the two, at once; only i waits for the messages."""
        pair = np.array([] if j is None else sorted((i, j)), dtype=np.int64)
        graph = Graph.from_edges(block.nodes, pair, pair[::-1])
        time = block.state["modelled_time"]
        before = time.clone()
        time[pair] = block.state["adpsgd.last"][i]  # both send now
        time[i] = before[i]  # which the clock moves there
        models = torch.stack([block.rows[k] for k in pair]) if len(pair) else block.rows[:0]
        inbox = yield Send(models, graph, self.codec, "pair", each=True)
        if j is not None:
            time[j] = before[j]
            heard = [*whole_rows(inbox.sent), *whole_rows(inbox.received)]
            for k in pair:
                message = heard[int(inbox.slots[inbox.indptr[k]])]
                block.rows[k] = (block.rows[k] + message) / 2
        block.state["adpsgd.copy"][i] = block.rows[i]
