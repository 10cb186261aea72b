"""To whom a node sends what it has, and in what form."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from hansa.base.lazy import torch
from hansa.codec import Codec, SparseRows, Tables
from hansa.codec.codec import check_codec
from hansa.codec.table_messages import offsets
from hansa.engine import Block
from hansa.topology import Graph


def check_codecs(ratings: Codec, rows: Codec) -> None:
    """Refuse codecs that cannot carry ratings, or rows in groups.

    Raises:
        ConfigError: naming the codec.
    """
    check_codec(ratings, table(np.zeros((1, 2), np.int64), np.ones(1, np.float32)), "rating_codec")
    check_codec(rows, SparseRows.of(torch.zeros(1, 4), [np.array([1])], 2), "row_codec")


def table(pairs: np.ndarray, stars: np.ndarray, indptr: ArrayLike | None = None) -> Tables:
    """Ratings as messages of three columns, user, item and stars: by default all in one message.

    Args:
        pairs: int64 [m, 2].
        stars: float32 [m].
        indptr: int64 [n+1], where each message's begin.
    """
    ends = np.array([0, len(pairs)] if indptr is None else indptr, dtype=np.int64)
    return Tables(ends, {"user": pairs[:, 0], "item": pairs[:, 1], "stars": stars})


@dataclass(frozen=True)
class Receivers:
    """Who gets what the nodes of a block send in a round.

    Attributes:
        graph: who hears whom.
        one: each node has something for one of those who hear it, and for the others an empty
            message, by which they know that they need not wait; else all hear the same.
        edges: how many messages leave the block, by sender and then receiver.
        chosen: int64 [n], which of them is not empty; -1 where nobody hears a node.
    """

    graph: Graph
    one: bool
    edges: int
    chosen: np.ndarray

    @classmethod
    def of(cls, block: Block, t: int, one: bool) -> Receivers:
        """Those of round t; who it is that hears a walk follows from a stream of the sender's."""
        graph = block.graph(t)
        indptr = graph.transpose().rows(block.ids)[0]
        chosen = np.full(len(block), -1)
        if one:
            for k, (node, degree) in enumerate(
                zip(block.ids.tolist(), np.diff(indptr).tolist(), strict=True)
            ):
                if degree:
                    walk = block.streams.own.numpy("rex walk", node, t)
                    chosen[k] = indptr[k] + walk.integers(degree)
        return cls(graph, one, int(indptr[-1]), chosen)

    @property
    def speaks(self) -> np.ndarray:
        """bool [n]: whether anybody gets what a node sends."""
        return self.chosen >= 0 if self.one else np.ones(len(self.chosen), dtype=bool)

    def tables(self, each: Tables) -> Tables:
        """Messages of these tables, one a node; of a node that nobody hears it is empty."""
        return Tables(self._spread(each.counts), each.columns) if self.one else each

    def rows(self, each: SparseRows) -> SparseRows:
        """Messages of these parts of rows, one a node."""
        if not self.one:
            return each
        return replace(each, indptr=self._spread(np.diff(each.indptr)))

    def _spread(self, counts: np.ndarray) -> np.ndarray:
        if (counts[~self.speaks] > 0).any():
            raise ValueError("something to send where nobody hears it")
        wide = np.zeros(self.edges, dtype=np.int64)
        wide[self.chosen[self.speaks]] = counts[self.speaks]
        return offsets(wide)
