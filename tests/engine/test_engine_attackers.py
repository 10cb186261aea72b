"""What leaves attackers is forged; what leaves the others, and what goes beside, is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import RunError
from hansa.base.streams import Streams
from hansa.codec import Packets, SparseRows
from hansa.engine import Send
from hansa.engine.exchange.attackers import Attackers
from hansa.ensemble import Gaussian, SignFlip
from hansa.topology import Graph

NODES, SIZE = 6, 5
RING = Graph.from_edges(NODES, np.arange(NODES), (np.arange(NODES) + 1) % NODES)
EVERY = Graph.from_edges(
    NODES, np.repeat(np.arange(NODES), NODES - 1),
    np.array([j for i in range(NODES) for j in range(NODES) if j != i]),
)  # fmt: skip
who = st.sets(st.integers(0, NODES - 1), min_size=1, max_size=NODES - 1)


def block(ids: np.ndarray | None = None, seed: int = 3) -> Any:
    ids = np.arange(NODES) if ids is None else ids
    return SimpleNamespace(ids=ids, streams=Streams(seed), clients=NODES)


def forged(send: Send, nodes: set[int], attack: Any = None, at: Any = None) -> Any:
    ids = tuple(sorted(nodes))
    chosen = attack or SignFlip(nodes=ids, scale=3.0)
    return Attackers(chosen, np.array(ids)).forged(at or block(), send, 2, 0, None).rows


@given(who, st.integers(0, SIZE))
def test_only_the_models_numbers_of_attackers_change(nodes: set[int], beside: int) -> None:
    rows = torch.arange(1.0, 1 + NODES * SIZE).view(NODES, SIZE)
    kept = rows.clone()
    found = forged(Send(rows, RING, beside=beside), nodes)
    bad, own = sorted(nodes), SIZE - beside
    honest = sorted(set(range(NODES)) - nodes)
    assert torch.equal(rows, kept)  # the sender's own model is as it was
    assert torch.equal(found[honest], rows[honest])
    assert torch.equal(found[bad, :own], -3 * rows[bad, :own])
    assert torch.equal(found[bad, own:], rows[bad, own:])


@given(who)
def test_each_message_of_an_attacker_is_forged(nodes: set[int]) -> None:
    rows = torch.ones(NODES * (NODES - 1), SIZE)
    found = forged(Send(rows, EVERY, each=True), nodes)
    senders = np.repeat(np.arange(NODES), NODES - 1)
    assert torch.equal(found[:, 0] < 0, torch.from_numpy(np.isin(senders, list(nodes))))


@given(who, who)
def test_senders_are_told_by_their_ids(nodes: set[int], sending: set[int]) -> None:
    at = block(np.arange(NODES) * 10)
    senders = np.array(sorted(sending))
    send = Send(torch.ones(len(senders), SIZE), RING, senders=senders)
    ids = {10 * i for i in nodes}
    found = forged(send, ids, SignFlip(nodes=tuple(ids)), at)
    assert torch.equal(found[:, 0] < 0, torch.from_numpy(np.isin(senders, list(nodes))))


@given(who, st.integers(0, 1 << 20))
def test_parts_of_rows_keep_their_places(nodes: set[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    counts = random.integers(0, SIZE + 1, NODES)
    positions = [np.sort(random.choice(SIZE, c, replace=False)) for c in counts]
    part = SparseRows.of(torch.rand(NODES, SIZE) + 1, positions)
    found = forged(Send(part, RING), nodes)
    for k in range(NODES):
        places, values = found.row(k)
        assert np.array_equal(places, positions[k])
        assert torch.equal(values, part.row(k)[1] * (-3 if k in nodes else 1))


@given(st.sets(st.integers(0, NODES - 1), min_size=1, max_size=NODES - 1))
def test_noise_is_a_nodes_own_whoever_is_beside_it(nodes: set[int]) -> None:
    send = Send(torch.zeros(NODES, SIZE), RING)
    ids = tuple(sorted(nodes))
    whole = forged(send, nodes, Gaussian(nodes=ids))
    for i in ids:
        alone = Send(torch.zeros(1, SIZE), RING)
        assert torch.equal(
            forged(alone, {i}, Gaussian(nodes=(i,)), block(np.array([i])))[0], whole[i]
        )
    other = forged(send, nodes, Gaussian(nodes=ids), block(seed=4))
    assert not torch.equal(whole[list(ids)], other[list(ids)])


def test_a_share_is_drawn_by_the_seed() -> None:
    attack = SignFlip(share=0.25)
    drawn = [attack.attackers(40, Streams(seed)).tolist() for seed in (1, 1, 2)]
    assert [len(ids) for ids in drawn] == [10] * 3
    assert drawn[0] == drawn[1] == sorted(drawn[0])
    assert drawn[0] != drawn[2]


def test_attackers_keep_their_places_where_nodes_are_numbered_anew() -> None:
    found = Attackers(SignFlip(nodes=(1, 4)), np.array([1, 4]))
    left = found.among([0, 2, 4, 5])
    assert left is not None
    assert left.nodes.tolist() == [2]
    assert found.among([0, 2, 3]) is None


def test_bytes_cannot_be_forged() -> None:
    with pytest.raises(RunError, match="bytes, which no attack can forge"):
        forged(Send(Packets((b"x",) * NODES), RING), {0})
