"""Deals drawn from a Dirichlet distribution: skewed classes, or skewed sizes.

Neither draws again until every node has enough, as common partitioners do (that may never end
with many nodes and a small alpha): what is short is moved over afterwards.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.data.dealing.partition import Partition, Parts, Pile, apportion, classes_of, top_up


@register("dirichlet", paper="Hsu et al.", year=2019, url="https://arxiv.org/abs/1909.06335")
class Dirichlet(Partition):
    """Every node gets its own mix of classes, drawn from a Dirichlet distribution.

    With ``draw: node`` (as Hsu et al. 2019) each node's mix over the classes is drawn and each
    class is shared out in proportion to the nodes' wishes, so sizes stay comparable. With
    ``draw: class`` (as Yurochkin et al. 2019, NIID-Bench) each class's shares over the nodes
    are drawn, so sizes vary as well; with ``draw: balanced`` (as FENS's and other code after Li et
    al. 2021) likewise, but a node that already has its N / nodes examples gets nothing of the
    classes that follow. Shares become counts by the largest remainder; all examples are dealt.
    """

    alpha: float = Field(
        0.5,
        gt=0,
        le=1e9,
        description="concentration: near 0 one class a node, above 100 nearly iid",
    )
    min_samples: int = Field(
        1, ge=1, description="examples that every node has at least, moved from the largest"
    )
    draw: Literal["node", "class", "balanced"] = Field(
        "node",
        description="draw each node's mix of classes, or each class's shares over nodes, or those "
        "over the nodes that do not have N / nodes examples yet",
    )

    def deal(self, pile: Pile, nodes: int, rng: np.random.Generator) -> Parts:
        names, codes = np.unique(classes_of(pile.targets, self), return_inverse=True)
        classes = len(names)
        if self.draw == "node":
            wishes = rng.dirichlet(np.full(classes, self.alpha), size=nodes).T
        else:
            wishes = rng.dirichlet(np.full(nodes, self.alpha), size=classes)
        parts: list[list[int]] = [[] for _ in range(nodes)]
        for label in range(classes):
            members = rng.permutation(np.flatnonzero(codes == label))
            shares = wishes[label]
            open_ = np.ones(nodes, dtype=bool)
            if self.draw == "balanced":
                open_ = np.array([len(part) < len(pile) / nodes for part in parts])
                shares = shares * open_
            if shares.sum() <= 0:  # with a tiny alpha nobody may want a class: one node takes it
                shares = np.zeros(nodes)
                shares[rng.choice(np.flatnonzero(open_))] = 1.0
            cuts = np.cumsum(apportion(shares, len(members)))[:-1]
            for part, piece in zip(parts, np.split(members, cuts), strict=True):
                part.extend(piece.tolist())
        top_up(parts, self.min_samples)
        return [np.array(part, np.int64) for part in parts]


@register("quantity")
class Quantity(Partition):
    """Node sizes are drawn from a Dirichlet distribution, the examples at random."""

    alpha: float = Field(
        1.0, gt=0, le=1e9, description="concentration: near 0 few nodes hold nearly all data"
    )
    min_samples: int = Field(
        1, ge=1, description="examples that every node has at least, moved from the largest"
    )

    def deal(self, pile: Pile, nodes: int, rng: np.random.Generator) -> Parts:
        shares = rng.dirichlet(np.full(nodes, self.alpha))
        cuts = np.cumsum(apportion(shares, len(pile)))[:-1]
        parts = [part.tolist() for part in np.split(rng.permutation(len(pile)), cuts)]
        top_up(parts, self.min_samples)
        return [np.array(part, np.int64) for part in parts]
