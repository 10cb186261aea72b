"""A small part of a node's own examples, kept from its training to judge or combine models.

FENS keeps a tenth of every class for its rule; CPFL keeps a tenth to decide when to stop,
and asks it only of clients with ten examples or more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.streams import Streams


def hold_back(
    part: np.ndarray,
    rng: np.random.Generator,
    share: float = 0.1,
    *,
    targets: np.ndarray | None = None,
    at_least: int = 10,
) -> tuple[np.ndarray, np.ndarray]:
    """One node's examples as (kept, held): disjoint, together all of them, both sorted int64.

    Args:
        part: [n] distinct example indices.
        rng: decides which are held.
        share: fraction to hold; of n examples floor(share * n) are held.
        targets: [N] classes of all examples; given, floor(share * n_c) of the n_c examples of
            each class c are held, which may be none at all.
        at_least: a node with fewer examples keeps all.

    Raises:
        ConfigError: the share is not in 0..1 (without 1).
    """
    if not 0 <= share < 1:
        raise ConfigError("share", share, "is no fraction below 1", "such as 0.1")
    # The order of the indices must not matter: only which examples a node has.
    part = np.sort(np.asarray(part, np.int64))
    shuffled = part[rng.permutation(len(part))]
    if len(part) < at_least:
        return part, part[:0]
    groups = [shuffled]
    if targets is not None:
        classes = targets[shuffled]
        groups = [shuffled[classes == c] for c in np.unique(classes)]
    held = np.sort(np.concatenate([part[:0], *(g[: _floor(share * len(g))] for g in groups)]))
    return np.setdiff1d(part, held, assume_unique=True), held


def hold_back_each(
    parts: Sequence[np.ndarray],
    streams: Streams,
    share: float = 0.1,
    *,
    nodes: Sequence[int] | None = None,
    targets: np.ndarray | None = None,
    at_least: int = 10,
    purpose: str = "data.hold_back",
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """:func:`hold_back` for many nodes, each by its own stream: (kept, held) per node.

    What a node holds depends on its id and its examples alone, not on which others there are.

    Args:
        parts: the examples of each node.
        nodes: the id of each part's node; none = 0, 1, ...
        purpose: names the streams.
    """
    ids = range(len(parts)) if nodes is None else nodes
    pairs = [
        hold_back(
            part, streams.numpy(purpose, node=int(node)), share, targets=targets, at_least=at_least
        )
        for node, part in zip(ids, parts, strict=True)
    ]
    return [kept for kept, _ in pairs], [held for _, held in pairs]


def _floor(value: float) -> int:
    """Rounded down, but 28.999999999999996 (0.29 * 100) is 29."""
    return int(np.floor(value + 1e-9))
