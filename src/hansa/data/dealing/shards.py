"""Two ways to give each node a few classes: equal shards, and DecentralizePy's random cuts."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.data.dealing.partition import Partition, Parts, Pile, classes_of


@register("shards", paper="McMahan et al.", year=2017, url="https://arxiv.org/abs/1602.05629")
class Shards(Partition):
    """Examples sorted by class and cut into equal shards, each node dealt a few at random.

    McMahan et al. 2017, section 3: ties within a class are shuffled; the nodes times
    ``shards_per_node`` shards differ by one example at most where they do not divide evenly.
    """

    shards_per_node: int = Field(2, ge=1, description="shards that each node gets")

    def deal(self, pile: Pile, nodes: int, rng: np.random.Generator) -> Parts:
        order = rng.permutation(len(pile))
        order = order[np.argsort(classes_of(pile.targets, self)[order], kind="stable")]
        count = nodes * self.shards_per_node
        if count > len(pile):
            raise ConfigError(
                "shards_per_node",
                self.shards_per_node,
                f"{nodes} nodes need {count} shards, but there are only {len(pile)} examples",
                f"at most {len(pile) // nodes}",
            )
        shards = np.array_split(order, count)
        dealt = rng.permutation(count).reshape(nodes, self.shards_per_node)
        return [np.concatenate([shards[shard] for shard in row]) for row in dealt]


@register(
    "random_cut_shards", paper="Dhasade et al.", year=2023, url="https://arxiv.org/abs/2304.08322"
)
class RandomCutShards(Partition):
    """Examples sorted by class, each node cuts chunks at random places of what remains.

    The k-shard partition of DecentralizePy (KShardDataPartitioner): the remainder is a circle,
    every node in turn cuts ``shards`` chunks of floor(floor(N / nodes) / shards) examples. As
    earlier cuts close up, a chunk may span several classes. The few examples that the rounding
    leaves over belong to no node.
    """

    shards: int = Field(2, ge=1, description="chunks that each node cuts")

    def deal(self, pile: Pile, nodes: int, rng: np.random.Generator) -> Parts:
        rest = np.argsort(classes_of(pile.targets, self), kind="stable")
        size = len(pile) // nodes // self.shards
        if size == 0:
            raise ConfigError(
                "shards",
                self.shards,
                f"a node has about {len(pile) // nodes} examples, fewer than its shards",
                f"at most {len(pile) // nodes}",
            )
        parts = []
        for _ in range(nodes):
            chunks = []
            for _ in range(self.shards):
                start = int(rng.integers(len(rest)))
                end = start + size
                if end <= len(rest):
                    chunks.append(rest[start:end])
                    rest = np.concatenate([rest[:start], rest[end:]])
                else:
                    over = end - len(rest)
                    chunks += [rest[start:], rest[:over]]
                    rest = rest[over:start]
            parts.append(np.concatenate(chunks))
        return parts
