"""Peers' aggregates against a plain loop over dense rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hansa.codec import SparseRows
from hansa.engine.exchange.aggregating import aggregate_
from hansa.engine.exchange.inbox import Inbox
from hansa.ensemble import Aggregator, Median, TrimmedMean
from hansa.topology import Graph, metropolis_hastings, uniform


def inbox_of(graph: Graph, sent: torch.Tensor | SparseRows) -> Inbox:
    """All that the nodes of a graph hear, in one block."""
    indptr, senders = graph.rows(np.arange(graph.nodes))
    empty = sent[:0] if isinstance(sent, torch.Tensor) else SparseRows.of(torch.zeros(0, 4), [])
    return Inbox(np.arange(graph.nodes), indptr, senders, senders, sent, empty)


@pytest.mark.parametrize("aggregator", [Median(), TrimmedMean(f=1)])
@given(st.integers(3, 7), st.integers(0, 1 << 20), st.booleans())
def test_peers_aggregate_what_they_hear_over_their_own(
    aggregator: Aggregator, n: int, seed: int, sparse: bool
) -> None:
    random = np.random.default_rng(seed)
    near = np.triu(random.random((n, n)) < 0.6, 1)
    a, b = np.nonzero(near)
    graph = Graph.from_edges(n, np.concatenate([a, b]), np.concatenate([b, a]))
    weights = (metropolis_hastings if seed % 2 else uniform)(graph)
    rows = torch.from_numpy(random.standard_normal((n, 4))).float()
    masks = random.random((n, 4)) < (0.5 if sparse else 2)
    sent: torch.Tensor | SparseRows = rows.clone()
    if sparse:
        sent = SparseRows.of(rows, [np.flatnonzero(mask) for mask in masks])
    wanted = rows.clone()
    indptr, columns, values = weights.rows(np.arange(n))
    for i in range(n):
        span = slice(indptr[i], indptr[i + 1])
        heard = torch.stack([
            torch.where(torch.from_numpy(masks[j]), rows[j], rows[i]) for j in columns[span]
        ])  # fmt: skip
        if len(heard) >= aggregator.least:
            wanted[i] = aggregator.of(heard, values[span])
    aggregate_(inbox_of(graph, sent), rows, weights, aggregator)
    assert torch.equal(rows, wanted)
