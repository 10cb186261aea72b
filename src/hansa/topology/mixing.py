"""How much each node trusts what it hears: row-stochastic weights on a graph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hansa.base.errors import ConfigError
from hansa.topology.graph import Graph

DENSE_LIMIT = 400
"""Up to this many nodes the spectrum is computed densely."""


@dataclass(frozen=True, eq=False)
class MixingMatrix:
    """Row-stochastic W in compressed-row form, with its diagonal: x_i <- sum_j W_ij x_j.

    Attributes:
        indptr: int64 [n+1].
        indices: int64 [edges + n], ascending within each row, i itself in row i.
        values: float64 [edges + n]; each row sums to 1.
    """

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray

    @property
    def nodes(self) -> int:
        """How many nodes there are (n)."""
        return len(self.indptr) - 1

    def dense(self) -> np.ndarray:
        """W as float64 [n, n]."""
        out = np.zeros((self.nodes, self.nodes))
        out[np.repeat(np.arange(self.nodes), np.diff(self.indptr)), self.indices] = self.values
        return out

    def rows(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(indptr [k+1], indices, values) of the rows of k receivers, in the order given."""
        ids = np.asarray(ids, dtype=np.int64)
        lengths = np.diff(self.indptr)[ids]
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        take = np.arange(indptr[-1]) + np.repeat(self.indptr[ids] - indptr[:-1], lengths)
        return indptr, self.indices[take], self.values[take]

    def own(self, ids: np.ndarray) -> np.ndarray:
        """float64 [k]: the weight that each of k nodes gives itself."""
        indptr, columns, values = self.rows(ids)
        return values[columns == np.repeat(ids, np.diff(indptr))]

    def second_eigenvalue(self) -> float:
        """Modulus of the second largest eigenvalue of W; below 1 where gossip reaches consensus."""
        return self._second_eigenvalue

    @property
    def spectral_gap(self) -> float:
        """1 minus the second eigenvalue's modulus: the larger, the faster consensus."""
        return 1.0 - self._second_eigenvalue

    @cached_property
    def _second_eigenvalue(self) -> float:
        # Since W 1 = 1, taking 1/n from every entry turns the eigenvalue 1 into 0 and leaves the
        # others as they are (Brauer, 1952), so what was second becomes first.
        if self.nodes > DENSE_LIMIT:
            return _arpack(self._scipy())
        deflated = self.dense() - 1.0 / self.nodes
        symmetric = np.allclose(deflated, deflated.T, rtol=0, atol=1e-14)
        spectrum = np.linalg.eigvalsh(deflated) if symmetric else np.linalg.eigvals(deflated)
        return float(np.abs(spectrum).max())

    def _scipy(self) -> Any:
        from scipy.sparse import csr_array

        return csr_array((self.values, self.indices, self.indptr), shape=(self.nodes,) * 2)


def metropolis_hastings(graph: Graph) -> MixingMatrix:
    """w_ij = 1 / (1 + max(d_i, d_j)), w_ii = 1 - sum_j w_ij (Xiao and Boyd, 2004).

    Symmetric and doubly stochastic.

    Raises:
        ConfigError: the graph is not symmetric.
    """
    if not graph.symmetric:
        raise ConfigError(
            "weights",
            "metropolis_hastings",
            "needs a graph in which every node is heard by those it hears",
            "weights: uniform",
        )
    degrees = graph.in_degrees
    receivers = graph.receivers
    weights = 1.0 / (1.0 + np.maximum(degrees[receivers], degrees[graph.indices]))
    own = 1.0 - np.bincount(receivers, weights=weights, minlength=graph.nodes)
    return _with_diagonal(graph, weights, own)


def uniform(graph: Graph) -> MixingMatrix:
    """1 / (1 + in-degree) on a node itself and on each node that it hears."""
    share = 1.0 / (1.0 + graph.in_degrees)
    return _with_diagonal(graph, share[graph.receivers], share)


def given(graph: Graph) -> MixingMatrix:
    """The graph's own weights, and on each node itself the rest of 1."""
    assert graph.weights is not None
    total = np.bincount(graph.receivers, weights=graph.weights, minlength=graph.nodes)
    return _with_diagonal(graph, graph.weights, np.maximum(1.0 - total, 0.0))


def likely(graph: Graph) -> MixingMatrix:
    """The graph's own weights, else Metropolis-Hastings where it is symmetric, else uniform."""
    if graph.weights is not None:
        return given(graph)
    return metropolis_hastings(graph) if graph.symmetric else uniform(graph)


def _with_diagonal(graph: Graph, weights: np.ndarray, own: np.ndarray) -> MixingMatrix:
    """Weights of the edges [edges] and of the nodes themselves [n] in one matrix."""
    n, receivers = graph.nodes, graph.receivers
    above = graph.indices > receivers
    edge_at = np.arange(graph.edges) + receivers + above
    indptr = graph.indptr + np.arange(n + 1)
    own_at = indptr[:-1] + np.bincount(receivers[~above], minlength=n)
    indices = np.empty(graph.edges + n, dtype=np.int64)
    values = np.empty(graph.edges + n)
    indices[edge_at], values[edge_at] = graph.indices, weights
    indices[own_at], values[own_at] = np.arange(n), own
    return MixingMatrix(indptr, indices, values)


def _arpack(matrix: Any) -> float:
    """Largest modulus in the spectrum of ``matrix - 1/n``, by Lanczos or Arnoldi iteration."""
    from scipy.sparse.linalg import LinearOperator, eigs, eigsh

    n = matrix.shape[0]
    start = np.random.Generator(np.random.Philox(0)).standard_normal(n)
    deflated = LinearOperator((n, n), matvec=lambda x: matrix @ x - x.mean(), dtype=np.float64)
    if np.abs(deflated @ start).max() < 1e-12:  # everyone hears everyone; ARPACK refuses zero
        return 0.0
    symmetric = abs(matrix - matrix.T).max() < 1e-14
    solve = eigsh if symmetric else eigs
    eigenvalues = solve(deflated, k=1, which="LM", v0=start, ncv=40, return_eigenvectors=False)
    return float(np.abs(eigenvalues).max())
