"""Who hears whom: a directed graph as two integer arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_FEW = 4096  # nodes
_SPARSE = 64  # of more nodes an edge, most have no edge at all


@dataclass(frozen=True, eq=False)
class Graph:
    """Directed graph in compressed-row form: row i lists the nodes that node i hears.

    A row is ascending, holds no node twice, and never i itself.

    Attributes:
        indptr: int64 [n+1]; row i is ``indices[indptr[i]:indptr[i+1]]``.
        indices: int64 [edges], the senders.
        weights: float64 [edges], what a receiver gives to a sender's model in place of an
            algorithm's weights; its own model gets the rest of 1. None where nobody said.
    """

    indptr: np.ndarray
    indices: np.ndarray
    weights: np.ndarray | None = None

    @classmethod
    def from_edges(
        cls, nodes: int, senders: ArrayLike, receivers: ArrayLike, symmetric: bool = False
    ) -> Graph:
        """The graph in which ``receivers[k]`` hears ``senders[k]``; repeated pairs count once.

        Args:
            nodes: how many nodes there are, named 0 to nodes - 1.
            senders: integers [pairs].
            receivers: integers [pairs].
            symmetric: add the other direction of every pair.

        Raises:
            ValueError: a pair names a node that does not exist, or a node and itself.
        """
        heard = np.asarray(senders, dtype=np.int64).reshape(-1)
        hearer = np.asarray(receivers, dtype=np.int64).reshape(-1)
        if heard.size != hearer.size:
            raise ValueError(f"{heard.size} senders do not pair with {hearer.size} receivers")
        bad = (heard < 0) | (heard >= nodes) | (hearer < 0) | (hearer >= nodes)
        if bad.any():
            k = int(bad.argmax())
            raise ValueError(f"edge ({heard[k]}, {hearer[k]}) is not among nodes 0..{nodes - 1}")
        loop = heard == hearer
        if loop.any():
            raise ValueError(f"node {heard[int(loop.argmax())]} is its own neighbour")
        if symmetric:
            heard, hearer = np.concatenate([heard, hearer]), np.concatenate([hearer, heard])
        pairs = np.sort(hearer * nodes + heard)
        if pairs.size:
            pairs = pairs[np.concatenate([[True], pairs[1:] != pairs[:-1]])]
        hearer, heard = np.divmod(pairs, max(nodes, 1))
        return cls(_offsets_of(hearer, nodes), heard)

    def with_weights(
        self, ends: Sequence[tuple[int, int]], weights: np.ndarray, symmetric: bool = False
    ) -> Graph:
        """This graph with a weight for each edge, and a node's own by a loop where there is one.

        Args:
            ends: (sender, receiver) of each weight; a pair may stand twice with equal weights.
            weights: float64 [pairs].
            symmetric: a weight is that of both directions.

        Raises:
            ValueError: an edge has two weights, one is negative or not finite, or those of a
                node do not fit into 1.
        """
        weight_of: dict[tuple[int, int], float] = {}
        for (sender, receiver), weight in zip(ends, weights.tolist(), strict=True):
            if not 0 <= weight < np.inf:
                raise ValueError(f"edge ({sender}, {receiver}) has weight {weight:g}")
            both = ((sender, receiver), (receiver, sender))
            for pair in both if symmetric else both[:1]:
                if weight_of.setdefault(pair, weight) != weight:
                    raise ValueError(f"edge {pair} has weights {weight_of[pair]:g} and {weight:g}")
        pairs = zip(self.indices.tolist(), self.receivers.tolist(), strict=True)
        values = np.array([weight_of[pair] for pair in pairs], dtype=np.float64)
        total = np.bincount(self.receivers, weights=values, minlength=self.nodes)
        for node, others in enumerate(total.tolist()):
            own = weight_of.get((node, node))
            if others > 1 + 1e-9 or (own is not None and abs(others + own - 1) > 1e-6):
                shown = "" if own is None else f" and {own:g} to itself"
                raise ValueError(f"node {node} gives {others:g} to its neighbours{shown}")
        return Graph(self.indptr, self.indices, values)

    def keep(self, edges: np.ndarray) -> Graph:
        """The graph with some of its edges, bool [edges]; a weight that goes is a node's own."""
        return Graph(
            _offsets_of(self.receivers[edges], self.nodes),
            self.indices[edges],
            None if self.weights is None else self.weights[edges],
        )

    @classmethod
    def from_networkx(cls, graph: Any) -> Graph:
        """From a networkx graph on the integers 0..n-1; an arc u -> v means that v hears u.

        Raises:
            ValueError: its nodes are not 0..n-1, or it has self loops.
        """
        nodes = graph.number_of_nodes()
        if set(graph.nodes) != set(range(nodes)):
            raise ValueError(f"its nodes are not the integers 0..{nodes - 1}")
        pairs = np.array(list(graph.edges()), dtype=np.int64).reshape(-1, 2)
        return cls.from_edges(nodes, pairs[:, 0], pairs[:, 1], symmetric=not graph.is_directed())

    def to_networkx(self) -> Any:
        """A networkx ``Graph`` where symmetric, else a ``DiGraph`` with arcs sender -> receiver."""
        import networkx

        graph = networkx.Graph() if self.symmetric else networkx.DiGraph()
        graph.add_nodes_from(range(self.nodes))
        graph.add_edges_from(zip(self.indices.tolist(), self.receivers.tolist(), strict=True))
        return graph

    @property
    def nodes(self) -> int:
        """How many nodes there are (n)."""
        return len(self.indptr) - 1

    @property
    def edges(self) -> int:
        """How many directed edges there are."""
        return len(self.indices)

    @property
    def in_degrees(self) -> np.ndarray:
        """int64 [n]: how many nodes each node hears."""
        return np.diff(self.indptr)

    @property
    def out_degrees(self) -> np.ndarray:
        """int64 [n]: by how many nodes each node is heard."""
        return np.bincount(self.indices, minlength=self.nodes)

    @property
    def receivers(self) -> np.ndarray:
        """int64 [edges]: the node that hears, in step with ``indices``."""
        return row_of_each(self.indptr)

    def row(self, node: int) -> np.ndarray:
        """int64 [in-degree]: the nodes that ``node`` hears, ascending."""
        return self.indices[self.indptr[node] : self.indptr[node + 1]]

    def has(self, senders: np.ndarray, receivers: np.ndarray) -> np.ndarray:
        """bool [pairs]: whether ``receivers[k]`` hears ``senders[k]``, of nodes that there are."""
        if not len(self.indices):
            return np.zeros(len(senders), dtype=bool)
        low, end = self.indptr[receivers], self.indptr[receivers + 1]
        high = end.copy()
        while (open_ := low < high).any():  # a row is ascending
            middle = (low + high) // 2
            below = open_ & (self.indices[np.minimum(middle, len(self.indices) - 1)] < senders)
            low = np.where(below, middle + 1, low)
            high = np.where(open_ & ~below, middle, high)
        return (low < end) & (self.indices[np.minimum(low, len(self.indices) - 1)] == senders)

    def rows(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(indptr [k+1], nodes heard) of k nodes, in the order given."""
        lengths = self.indptr[ids + 1] - self.indptr[ids]
        indptr = _offsets(lengths)
        take = np.arange(indptr[-1]) + np.repeat(self.indptr[ids] - indptr[:-1], lengths)
        return indptr, self.indices[take]

    def transpose(self) -> Graph:
        """The graph whose row i lists the nodes that hear i."""
        order = np.argsort(self.indices, kind="stable")
        return Graph(_offsets_of(self.indices, self.nodes), self.receivers[order])

    @cached_property
    def symmetric(self) -> bool:
        """Whether every node is heard by those it hears."""
        return self == self.transpose()

    @cached_property
    def pieces(self) -> int:
        """How many parts have no edge between them in either direction."""
        if self.nodes <= _FEW and self.connected:
            return 1
        from scipy.sparse import csgraph, csr_array

        matrix = csr_array(
            (np.ones(self.edges, np.int8), self.indices, self.indptr), shape=(self.nodes,) * 2
        )
        return int(csgraph.connected_components(matrix, connection="weak", return_labels=False))

    @cached_property
    def connected(self) -> bool:
        """Whether every node reaches every other along the edges' direction."""
        if self.nodes == 0:
            return False
        if self.nodes <= _FEW:  # scipy takes longer to import than this to run
            back = self.transpose()
            return _reaches_all(self.indptr, self.indices) and _reaches_all(
                back.indptr, back.indices
            )
        from scipy.sparse import csgraph, csr_array

        matrix = csr_array(
            (np.ones(self.edges, np.int8), self.indices, self.indptr), shape=(self.nodes,) * 2
        )
        return csgraph.connected_components(matrix, connection="strong", return_labels=False) == 1

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        return np.array_equal(self.indptr, other.indptr) and np.array_equal(
            self.indices, other.indices
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Graph(nodes={self.nodes}, edges={self.edges})"


def _reaches_all(indptr: np.ndarray, indices: np.ndarray) -> bool:
    """Whether node 0 reaches every other along the listed edges."""
    seen = np.zeros(len(indptr) - 1, dtype=bool)
    seen[0] = True
    ahead = np.zeros(1, dtype=np.int64)
    while len(ahead):
        heard = np.concatenate([indices[indptr[node] : indptr[node + 1]] for node in ahead])
        ahead = np.unique(heard[~seen[heard]])
        seen[ahead] = True
    return bool(seen.all())


def _offsets(counts: np.ndarray) -> np.ndarray:
    """int64 [n+1]: where each row starts, from the rows' lengths [n]."""
    indptr = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=indptr[1:])
    return indptr


def _offsets_of(rows: np.ndarray, nodes: int) -> np.ndarray:
    """int64 [nodes+1]: where each row starts, from the row of each entry [edges]."""
    if len(rows) * _SPARSE >= nodes:
        return _offsets(np.bincount(rows, minlength=nodes))
    at, counts = np.unique(rows, return_counts=True)
    return np.repeat(_offsets(counts), np.diff(np.concatenate([[-1], at, [nodes]])))


def row_of_each(indptr: np.ndarray) -> np.ndarray:
    """int64 [edges]: the row of each entry of a compressed-row form, from where rows start."""
    nodes, edges = len(indptr) - 1, int(indptr[-1])
    if edges * _SPARSE >= nodes:
        return np.repeat(np.arange(nodes), np.diff(indptr))
    return np.searchsorted(indptr, np.arange(edges), side="right") - 1
