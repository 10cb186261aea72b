"""Models of which every node holds only some rows: which it holds, and how two become one.

A *group* is a user's or an item's numbers, vector and bias alike, or some of those that all
ratings share. A node holds a group that it trained or was sent, and the shared ones from the start.
What nobody sent stays as it is; a group that a node lacks is copied, its bias as it is.
"""

from __future__ import annotations

import numpy as np

from hansa.base.lazy import torch
from hansa.codec import SparseRows
from hansa.engine import Block, Inbox
from hansa.recommend.stepping import network_of
from hansa.topology import Graph, MixingMatrix

HELD = "rex.held"
"""In a block's state: which groups each node holds, bool [n, groups]."""


def start(block: Block) -> None:
    """Every node holds what all ratings share."""
    network = network_of(block)
    held = torch.zeros(len(block), network.groups, dtype=torch.bool)
    held[:, sum(network.known) :] = True
    block.state[HELD] = held


def mark(block: Block, indptr: np.ndarray, pairs: np.ndarray) -> None:
    """The nodes hold the rows of the users and items that they trained on.

    Args:
        indptr: int64 [n+1]; the k-th node's pairs are ``indptr[k]:indptr[k+1]``.
        pairs: int64 [m, 2].
    """
    held, users = block.state[HELD].numpy(), network_of(block).known[0]
    node = np.repeat(np.arange(len(block)), np.diff(indptr))
    held[node, pairs[:, 0]] = True
    held[node, users + pairs[:, 1]] = True


def held_rows(block: Block, who: np.ndarray, items: bool | np.ndarray = False) -> SparseRows:
    """What the nodes hold of their models, a message each; nothing of those not in ``who``.

    Args:
        who: bool [n].
        items: only rows of items, at all nodes or, bool [n], at some.
    """
    network = network_of(block)
    held, group = block.state[HELD].numpy() & who[:, None], network.group
    if np.any(items):
        of_items = np.zeros(held.shape[1], dtype=bool)
        of_items[network.known[0] : sum(network.known)] = True
        held &= of_items | ~np.broadcast_to(items, len(held))[:, None]
    return SparseRows.of(block.rows, [np.flatnonzero(groups) for groups in held], group)


def halve(block: Block, inbox: Inbox) -> None:
    """Random model walks: the mean of two, for one model that came after the other, by sender."""
    inbox.halve_held_(block.rows, block.state[HELD].numpy())


def average(block: Block, inbox: Inbox, graph: Graph) -> None:
    """D-PSGD by Metropolis-Hastings weights, those who lack a group lending theirs to who holds it.

    Who does not hold it takes the mean of those who do, weighed by 1 / their degree.
    """
    weights = block.mixing(graph, "metropolis_hastings")
    degrees = np.maximum(graph.in_degrees, 1)
    take = MixingMatrix(weights.indptr, weights.indices, 1 / degrees[weights.indices])
    inbox.mix_held_(block.rows, weights, block.state[HELD].numpy(), take, lend=True)
