"""To whom a node sends what it has, and in what form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.codec import Codec, SparseRows, Tables
from hansa.codec.codec import check_codec
from hansa.codec.table_messages import offsets
from hansa.engine import Block
from hansa.topology import Graph

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def check_codecs(ratings: Codec, rows: Codec, beside: int) -> None:
    """Refuse codecs that cannot carry ratings, or rows in groups.

    Args:
        beside: columns that go with ratings.

    Raises:
        ConfigError: naming the codec.
    """
    one = table(np.zeros((1, 2), np.int64), np.ones(1, np.float32))
    more = {str(k): np.zeros(1, np.uint8) for k in range(beside)}
    check_codec(ratings, Tables(one.indptr, {**one.columns, **more}), "rating_codec")
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
        degrees: int64 [n], how many hear each node.
    """

    graph: Graph
    one: bool
    edges: int
    chosen: np.ndarray
    degrees: np.ndarray

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
        return cls(graph, one, int(indptr[-1]), chosen, np.diff(indptr))

    @property
    def speaks(self) -> np.ndarray:
        """bool [n]: whether anybody gets what a node sends."""
        return self.chosen >= 0 if self.one else np.ones(len(self.chosen), dtype=bool)

    def links(self, block: Block) -> list[tuple[int, int]]:
        """(position in the block, receiver) of each message that leaves it."""
        indptr, hearing = self.graph.transpose().rows(block.ids)
        senders = np.repeat(np.arange(len(block)), np.diff(indptr))
        return list(zip(senders.tolist(), hearing.tolist(), strict=True))

    def on_edges(self, tables: Tables, at: np.ndarray) -> Tables:
        """These tables, on the links ``at`` (int64, ascending) from the block, empty on others."""
        return Tables(self._spread(tables.counts, at), tables.columns)

    def rows(self, each: SparseRows) -> SparseRows:
        """Messages of these parts of rows, one a node."""
        if not self.one:
            return each
        counts = np.diff(each.indptr)
        if (counts[~self.speaks] > 0).any():
            raise ValueError("something to send where nobody hears it")
        at = self.chosen[self.speaks]
        return replace(each, indptr=self._spread(counts[self.speaks], at))

    def _spread(self, counts: np.ndarray, at: np.ndarray) -> np.ndarray:
        wide = np.zeros(self.edges, dtype=np.int64)
        wide[at] = counts
        return offsets(wide)
