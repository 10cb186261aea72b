"""One exchange in memory: what is counted, what arrives, and how it is mixed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hansa.codec import Codec, Dense
from hansa.engine import (
    Algorithm,
    Block,
    Inbox,
    Job,
    Network,
    Script,
    Send,
    WallClock,
    nobody,
    star_to,
)
from hansa.engine.exchange.asked import Exchange
from hansa.engine.exchange.wire import HEADER_BYTES
from hansa.topology import Graph, Ring, metropolis_hastings, uniform

EDGES = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=30)


def graph_of(pairs: list[tuple[int, int]], symmetric: bool) -> Graph:
    kept = [(a, b) for a, b in pairs if a != b]
    return Graph.from_edges(8, [a for a, _ in kept], [b for _, b in kept], symmetric)


@pytest.fixture
def block(make_job: Callable[..., Job]) -> Block:
    made = make_job().block(np.arange(8))
    made.rows += torch.randn(made.rows.shape, generator=torch.Generator().manual_seed(0))
    return made


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=EDGES, symmetric=st.booleans(), dtype=st.sampled_from(["float32", "bfloat16"]))
def test_what_is_sent_is_received(
    block: Block, pairs: list[tuple[int, int]], symmetric: bool, dtype: str
) -> None:
    graph = graph_of(pairs, symmetric)
    before = {name: block.state[name].clone() for name in block.state}
    block.report = {}
    inbox = Exchange(WallClock())(block, Send(block.rows, graph, Dense(dtype=dtype)), 0, 0)
    moved = {n: (block.state[n] - before[n]).numpy() for n in before if n.endswith(("sent", "ved"))}
    size = block.rows.shape[1] * (4 if dtype == "float32" else 2) + HEADER_BYTES
    assert moved["messages_sent"].tolist() == graph.out_degrees.tolist()
    assert moved["messages_received"].tolist() == graph.in_degrees.tolist()
    assert moved["bytes_sent"].tolist() == (size * graph.out_degrees).tolist()
    assert moved["bytes_received"].tolist() == (size * graph.in_degrees).tolist()
    assert moved["bytes_sent"].sum() == moved["bytes_received"].sum()
    assert len(inbox) == graph.edges
    sizes = block.report["message_bytes"]
    assert np.array_equal(np.isnan(sizes), graph.out_degrees == 0)
    kept, expected = block.rows.clone(), Dense(dtype=dtype).through(block.rows.clone())
    for k in range(8):
        senders, rows = inbox.messages(k)
        assert senders.tolist() == graph.row(k).tolist()
        assert rows.shape == (len(senders), block.rows.shape[1])
        assert torch.equal(rows, expected[senders])
        rows.zero_()  # they are the receiver's own
    assert torch.equal(block.rows, kept)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pairs=EDGES,
    symmetric=st.booleans(),
    dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
    alias=st.booleans(),
)
def test_mixing_is_the_weighted_sum_of_own_and_messages(
    block: Block, pairs: list[tuple[int, int]], symmetric: bool, dtype: str, alias: bool
) -> None:
    """Own numbers are the node's own, messages what the codec leaves of the others'."""
    graph = graph_of(pairs, symmetric)
    weights = metropolis_hastings(graph) if symmetric else uniform(graph)
    matrix = weights.dense()
    sent = block.rows.clone()
    inbox = Exchange(WallClock())(block, Send(sent, graph, Dense(dtype=dtype)), 0, 0)
    rows = sent if alias else sent + 1
    own, heard = rows.double().numpy(), Dense(dtype=dtype).through(sent).double().numpy()
    expected = np.diag(matrix)[:, None] * own + (matrix - np.diag(np.diag(matrix))) @ heard
    result = rows.clone() if not alias else rows
    inbox.mix_(result, weights)
    np.testing.assert_allclose(result.double().numpy(), expected, rtol=1e-5, atol=1e-5)
    if not alias:
        assert torch.equal(inbox.sent, sent)


def test_part_of_the_columns_can_be_sent(block: Block) -> None:
    graph = graph_of([(0, 1), (1, 2)], symmetric=True)
    part = block.rows[:, :5].clone()
    inbox = Exchange(WallClock())(block, Send(part, graph), 0, 0)
    assert inbox.messages(1)[1].shape == (2, 5)
    assert block.state["bytes_sent"].tolist()[:3] == [84, 168, 84]


@pytest.mark.parametrize("other", [[(0, 1)], [(0, 1), (1, 2), (2, 3)], [(0, 1), (1, 3)]])
def test_weights_of_another_graph_are_refused(block: Block, other: list[tuple[int, int]]) -> None:
    graph = graph_of([(0, 1), (1, 2)], symmetric=True)
    inbox = Exchange(WallClock())(block, Send(block.rows, graph), 0, 0)
    before = block.rows.clone()
    with pytest.raises(ValueError, match="not those of the graph"):
        inbox.mix_(block.rows, metropolis_hastings(graph_of(other, symmetric=True)))
    assert torch.equal(block.rows, before)


def test_nobody_and_star() -> None:
    assert nobody(3).edges == 0
    assert [star_to(1, 4).row(k).tolist() for k in range(4)] == [[], [0, 2, 3], [], []]


def test_the_largest_message_of_a_round_is_reported(block: Block) -> None:
    exchange, ring = Exchange(WallClock()), Ring().graph(8, 0, block.streams)
    block.report = {}
    for columns in (3, 7, 5):
        exchange(block, Send(block.rows[:, :columns].clone(), ring), 0, 0)
    assert block.report["message_bytes"].tolist() == [7 * 4 + HEADER_BYTES] * 8


def test_a_gn_lenet_message_on_cifar_sized_images(make_job: Callable[..., Job]) -> None:
    """89,834 numbers of 4 bytes, and less than 200 bytes besides (spec 5.3)."""
    from hansa.base.spec import DataSpec
    from hansa.base.streams import Streams
    from hansa.models import GNLeNet, ParameterLayout, initial_model

    module = initial_model(GNLeNet(), DataSpec("image", (3, 32, 32), 10), Streams(1))
    row = ParameterLayout.of(module).flatten(module)
    assert HEADER_BYTES == 64
    assert Dense().size(row[None])[0] == 359_336
    small = make_job({"model": "gn_lenet"}).block(np.arange(8))
    ring = Ring().graph(8, 0, small.streams)
    Exchange(WallClock())(small, Send(small.rows, ring), 0, 0)
    numbers = small.trainer.layout.size
    assert small.state["bytes_sent"].tolist() == [2 * (4 * numbers + HEADER_BYTES)] * 8


class Halving(Codec):
    """A lossy codec of the test's own: half of every number."""

    def encode(self, rows: torch.Tensor) -> list[bytes | memoryview]:
        return Dense().encode(rows / 2)

    def decode(self, payload: bytes | memoryview, elements: int) -> torch.Tensor:
        return Dense().decode(payload, elements)

    def size(self, rows: torch.Tensor) -> np.ndarray:
        return Dense().size(rows)

    def through(self, rows: torch.Tensor) -> torch.Tensor:
        return rows / 2


def test_a_lossy_codec_changes_messages_but_not_ones_own() -> None:
    graph = Graph.from_edges(2, [0], [1], symmetric=True)
    rows = torch.tensor([[2.0], [6.0]])
    inbox = Inbox(
        ids=np.arange(2),
        indptr=graph.indptr,
        senders=graph.indices,
        slots=graph.indices + 2,
        sent=rows,
        received=Halving().through(rows),
    )
    inbox.mix_(rows, metropolis_hastings(graph))
    assert rows[:, 0].tolist() == [2.5, 3.5]


def test_a_network_remembers_what_does_not_change(make_job: Callable[..., Job]) -> None:
    static: Network = make_job().network
    assert static.graph(0) is static.graph(7)
    assert static.mixing(static.graph(0), "uniform") is static.mixing(static.graph(3), "uniform")
    rule = static.mixing(static.graph(0), "metropolis_hastings")
    assert rule is not static.mixing(static.graph(0), "uniform")
    changing: Any = make_job({"topology": {"name": "regular", "degree": 3, "dynamic": True}})
    graphs = [changing.network.graph(t) for t in (0, 1, 0)]
    assert graphs[0] != graphs[1]
    assert graphs[0] == graphs[2]


def test_a_kind_that_does_not_fit_the_header_is_refused_at_once(block: Block) -> None:
    """Not only where there are sockets."""
    graph = nobody(8)
    for kind in ("seventeen letters", "é", "nul\0"):
        with pytest.raises(ValueError, match="kind"):
            Send(block.rows, graph, kind=kind)


def test_a_turn_needs_a_kind_and_fits_the_header(block: Block) -> None:
    graph = nobody(8)
    for kind, turn in (("", 0), ("model", -1), ("model", 1 << 16)):
        with pytest.raises(ValueError, match="turn"):
            Send(block.rows, graph, kind=kind, turn=turn)
    assert Send(block.rows, graph, kind="part", turn=3).when(5, 1) == (5, "part", 3)
    assert Send(block.rows, graph, kind="part").when(5, 1) == (5, "", 1)


class InTurns(Algorithm):
    """Each worker's own nodes swap models as often as the least of them says, then all once."""

    def round(self, block: Block, t: int) -> Script:
        ids = block.ids
        for turn in range(int(ids[0]) // 3):
            ring = Graph.from_edges(block.nodes, ids, np.roll(ids, 1))
            came = yield Send(block.rows, ring, kind="near", turn=turn)
            came.mix_(block.rows, uniform(ring))
        graph = block.graph(t)
        (yield Send(block.rows, graph)).mix_(block.rows, block.mixing(graph, "uniform"))


def test_blocks_may_take_part_in_different_numbers_of_turns(
    make_job: Callable[..., Job], host_apart: Callable[..., Any]
) -> None:
    """The exchanges that all take part in are counted alike everywhere."""

    def make() -> Job:
        job = make_job()
        job.algorithm = InTurns()
        return job

    _, state, posts = host_apart(make, 3)
    near = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    assert state["messages_sent"].tolist() == (5 * (3 + near)).tolist()
    assert all(not post.dropped for post in posts)
