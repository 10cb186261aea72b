"""A block: any number of nodes that live in one worker, their models one stacked tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hansa.base.streams import Streams
from hansa.data import Split
from hansa.engine.network import Network, WeightRule
from hansa.models import ParameterLayout
from hansa.topology import Graph, MixingMatrix

COUNTERS = (
    "steps",
    "samples",
    "messages_sent",
    "messages_received",
    "bytes_sent",
    "bytes_received",
)


class LocalWork(Protocol):
    """What a block needs of its trainer."""

    device: torch.device
    layout: ParameterLayout
    module: nn.Module

    def train(
        self, block: Block, round: int, who: np.ndarray | None = None, steps: int | None = None
    ) -> None:
        """Take local steps at these positions (default all), in place."""

    def evaluate(self, rows: Tensor, split: Split, batch_size: int) -> dict[str, np.ndarray]:
        """Loss and accuracy (or RMSE) of each row."""

    def close(self) -> None:
        """Free what it holds."""


@dataclass
class Block:
    """The nodes of one worker. All per-node things are in the order of ``ids``.

    Attributes:
        ids: int64 [n], the nodes' names in the run, ascending.
        rows: float32 [n, D], their models in the layout of :class:`ParameterLayout`.
        parts: their training examples, one index array a node.
        streams: named random streams of the run.
        network: topology and mixing weights.
        trainer: local work.
        state: named per-node state, tensors [n, ...]; saved in checkpoints. An algorithm adds
            its own under a prefix. The engine keeps the counters there, cumulative: local steps,
            examples, messages and bytes sent and received, and the modelled time and energy.
        report: this round's measurements by name, arrays [n]; NaN where a node has none.
            An algorithm may add its own: they become metrics.
    """

    ids: np.ndarray
    rows: Tensor
    parts: Sequence[np.ndarray]
    streams: Streams
    network: Network
    trainer: LocalWork
    state: dict[str, Tensor] = field(default_factory=dict)
    report: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def start(
        cls,
        ids: np.ndarray,
        initial: Tensor,
        parts: Mapping[int, np.ndarray] | Sequence[np.ndarray],
        streams: Streams,
        network: Network,
        trainer: LocalWork,
    ) -> Block:
        """A block before the first round: every node at the same initial model [D]."""
        n = len(ids)
        block = cls(
            ids=np.asarray(ids, dtype=np.int64),
            rows=initial.to(trainer.device).repeat(n, 1),
            parts=[parts[int(i)] for i in ids],
            streams=streams,
            network=network,
            trainer=trainer,
        )
        for name in COUNTERS:
            block.state[name] = torch.zeros(n, dtype=torch.int64)
        for name in ("modelled_time", "energy"):
            block.state[name] = torch.zeros(n, dtype=torch.float64)
        buffers = dict(trainer.module.named_buffers())
        for entry in trainer.layout.integer_buffers:
            value = buffers[entry.name]
            block.state[f"buffer.{entry.name}"] = value.repeat(n, *[1] * value.ndim).clone()
        return block

    @property
    def nodes(self) -> int:
        """How many nodes the whole run has."""
        return self.network.nodes

    def __len__(self) -> int:
        return len(self.ids)

    def positions(self, ids: np.ndarray) -> np.ndarray:
        """Where these nodes of the run stand in the block; those not in it are left out."""
        place = np.full(self.nodes, -1, dtype=np.int64)
        place[self.ids] = np.arange(len(self.ids))
        found = place[ids]
        return found[found >= 0]

    def train(self, round: int, who: np.ndarray | None = None, steps: int | None = None) -> None:
        """Local work of a round (see :meth:`LocalWork.train`)."""
        self.trainer.train(self, round, who, steps)

    def graph(self, round: int) -> Graph:
        """The topology's graph in a round, over all nodes of the run."""
        return self.network.graph(round)

    def mixing(self, graph: Graph, rule: WeightRule) -> MixingMatrix:
        """Mixing weights on a graph, over all nodes of the run."""
        return self.network.mixing(graph, rule)
