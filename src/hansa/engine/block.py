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
from hansa.engine.clock import Clock
from hansa.engine.network import Network, WeightRule
from hansa.models import ParameterLayout
from hansa.topology import Graph, MixingMatrix

COUNTERS = (
    "steps",
    "samples",
    "training_rounds",
    "messages_sent",
    "messages_received",
    "bytes_sent",
    "bytes_received",
)
MODELLED = ("modelled_time", "energy", "training_energy", "radio_energy")


class LocalWork(Protocol):
    """What a block needs of its trainer."""

    device: torch.device
    layout: ParameterLayout
    module: nn.Module
    rounds: int
    samples_per_round: int

    def train(
        self,
        block: Block,
        round: int,
        who: np.ndarray | None = None,
        steps: int | None = None,
        draw: int | None = None,
    ) -> None:
        """Take local steps at these positions (default all), in place.

        Batches come from the streams of the round, or of ``draw`` where a node works more than
        once a round.
        """

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
            examples, rounds with training, messages and bytes sent and received, and the
            modelled time and energy (of training, of the radio, and their sum).
        report: this round's measurements by name, arrays [n]; NaN where a node has none.
            An algorithm may add its own: they become metrics.
        clock: the run's clock, for algorithms whose nodes keep to their own time.
        awake: who may train in this round, bool [n]; None: all. The others keep their models
            in :meth:`train` and take part in everything else.
    """

    ids: np.ndarray
    rows: Tensor
    parts: Sequence[np.ndarray]
    streams: Streams
    network: Network
    trainer: LocalWork
    state: dict[str, Tensor] = field(default_factory=dict)
    report: dict[str, np.ndarray] = field(default_factory=dict)
    clock: Clock | None = None
    awake: np.ndarray | None = None

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
        for name in MODELLED:
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

    @property
    def rounds(self) -> int:
        """How many rounds the whole run has."""
        return self.trainer.rounds

    def __len__(self) -> int:
        return len(self.ids)

    def positions(self, ids: np.ndarray) -> np.ndarray:
        """Where these nodes of the run stand in the block; those not in it are left out."""
        place = np.full(self.nodes, -1, dtype=np.int64)
        place[self.ids] = np.arange(len(self.ids))
        found = place[ids]
        return found[found >= 0]

    def train(
        self,
        round: int,
        who: np.ndarray | None = None,
        steps: int | None = None,
        draw: int | None = None,
    ) -> None:
        """Local work of the nodes that are present and awake (see :meth:`LocalWork.train`)."""
        present = self.present(round)
        if not present.all():
            who = np.flatnonzero(present) if who is None else np.asarray(who)[present[who]]
        if self.awake is not None:
            who = np.flatnonzero(self.awake) if who is None else who[self.awake[who]]
        self.trainer.train(self, round, who, steps, draw)

    def present(self, round: int) -> np.ndarray:
        """bool [n]: which of the block's nodes take part in a round; the others do not train."""
        return self.network.present(round)[self.ids]

    def graph(self, round: int) -> Graph:
        """The topology's graph in a round, over all nodes of the run."""
        return self.network.graph(round)

    def mixing(self, graph: Graph, rule: WeightRule) -> MixingMatrix:
        """Mixing weights on a graph, over all nodes of the run."""
        return self.network.mixing(graph, rule)
