"""Sharing part of a model: what random sampling, TopK and JWINS have in common.

A message holds some numbers of a row, at positions of the sender's choice; the receiver puts them
over its own row and averages as D-PSGD does: x_i <- x_i + sum_j w_ij m_j (x_j - x_i), where m_j
marks what j sent. The mean over the nodes is *not* preserved: that is how the published schemes
work (Dhasade et al., 2023).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.codec import SparseRows
from hansa.engine import Algorithm, Block, Network

if TYPE_CHECKING:
    from torch import Tensor


def peers_only(inner: Algorithm, network: Network, field: str) -> None:
    """Refuse an algorithm with servers where only one among peers will do.

    Raises:
        ConfigError: naming the field.
    """
    if inner.servers(network.clients):
        problem = "has a server, whose clients train only when they are invited"
        raise ConfigError(field, inner.name, problem, "an algorithm among peers: dpsgd, jwins")


def some_numbers() -> SparseRows:
    """A small part of a row, to try a codec on."""
    return SparseRows.of(torch.zeros(1, 4), [np.array([1, 2])])


def largest(scores: Tensor, counts: np.ndarray) -> list[np.ndarray]:
    """Positions of the ``counts[k]`` largest |scores[k]|, ascending; ties go to the first.

    Args:
        scores: [n, K], on any device.
        counts: int64 [n].
    """
    positions = []
    for row, count in zip(scores.abs().cpu().numpy(), counts, strict=True):
        size = len(row)
        if count >= size:
            positions.append(np.arange(size))
            continue
        if count <= 0:
            positions.append(np.zeros(0, dtype=np.int64))
            continue
        threshold = np.partition(row, size - count)[size - count]
        above = row > threshold
        ties = np.flatnonzero(row == threshold)[: count - np.count_nonzero(above)]
        above[ties] = True
        positions.append(np.flatnonzero(above))
    return positions


def clear_(accumulated: Tensor, sent: SparseRows) -> None:
    """Set the numbers that were sent to zero in an accumulator [n, K]."""
    owners = np.repeat(np.arange(len(sent)), sent.counts)
    accumulated[torch.from_numpy(owners), torch.from_numpy(sent.single().positions)] = 0


def random_positions(block: Block, purpose: str, t: int, share: float) -> list[np.ndarray]:
    """A share of each node's numbers, drawn at random for round t: ascending positions."""
    size = block.rows.shape[1]
    count = round(share * size)
    return [
        np.sort(block.streams.own.numpy(purpose, int(i), t).choice(size, count, replace=False))
        for i in block.ids
    ]
