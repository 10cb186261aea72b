"""Parts of very many clients without an object each are as lists of arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.data.dealing.deal import ByClient, Deal, OfNodes, listed, sizes_of
from hansa.topology import Graph

PARTS = st.lists(st.lists(st.integers(0, 99), max_size=4).map(lambda x: np.array(x, np.int64)))


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


@given(PARTS)
def test_a_deal_is_as_the_list_it_was_made_of(parts: list[np.ndarray]) -> None:
    deal = Deal.of(parts)
    assert same([*deal], parts)
    assert same([*deal[1:-1]], parts[1:-1])
    assert sizes_of(deal).tolist() == sizes_of(parts).tolist() == [*map(len, parts)]
    assert listed(ByClient(deal)) is deal
    assert same([*ByClient(deal).values()], parts)
    with pytest.raises(IndexError):
        deal[len(parts)]
    with pytest.raises(KeyError):
        ByClient(deal)[len(parts)]


@given(PARTS, st.data())
def test_servers_have_nothing_and_nodes_their_own(parts: list[np.ndarray], data) -> None:
    ids = np.array(data.draw(st.lists(st.integers(0, len(parts) + 2))), dtype=np.int64)
    nothing = np.zeros(0, dtype=np.int64)
    expected = [parts[i] if i < len(parts) else nothing for i in ids.tolist()]
    for given_parts in (parts, Deal.of(parts)):
        of = OfNodes(given_parts, ids, len(parts))
        assert same([*of], expected)
        assert of.sizes.tolist() == [*map(len, expected)]
    assert not OfNodes((), ids, len(parts)).sizes.any()


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda p: p[0] != p[1])))
def test_a_graph_knows_its_edges(pairs: list[tuple[int, int]]) -> None:
    senders, receivers = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    graph = Graph.from_edges(8, senders, receivers)
    every = np.array([(a, b) for a in range(8) for b in range(8)]).T
    said = graph.has(*every)
    assert said.tolist() == [(a, b) in set(pairs) for a, b in every.T.tolist()]
