"""Probabilities of members who mostly agree, and set networks that were not trained."""

from __future__ import annotations

import torch

from hansa.ensemble.aggregators import Aggregator
from hansa.infer.robust.deep_set import DeepSetAggregator
from hansa.infer.robust.pooled_set import PooledSet


def answers(m: int, n: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(probabilities [m, n, K], labels [m]) of members who lean to the true class."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (m,), generator=draw)
    logits = torch.randn(m, n, classes, generator=draw) * 1.5
    logits += 2 * torch.nn.functional.one_hot(labels, classes).unsqueeze(1)
    return logits.softmax(-1), labels


def set_network(classes: int, pooling: Aggregator | str = "mean", seed: int = 0) -> PooledSet:
    """A set network with numbers of its first draw, made larger so that answers differ."""
    entry = DeepSetAggregator(pooling=pooling, hidden=16)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = entry.network(classes)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    return entry.build("set", classes, network.state_dict())
