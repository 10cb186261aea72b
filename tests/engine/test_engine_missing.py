"""Messages that do not come: what each policy makes of them, beside a plain reference."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hansa.base.errors import ConfigError, RunError
from hansa.base.streams import Streams
from hansa.codec import Dense, Sparse, SparseRows
from hansa.engine import Block, Inbox, Job, ModelledClock, Send, WallClock
from hansa.engine.exchange.aggregating import aggregate_
from hansa.engine.exchange.asked import Exchange
from hansa.engine.exchange.faults import Faults
from hansa.engine.exchange.wire import When
from hansa.ensemble.aggregators import Aggregator, Mean
from hansa.topology import Graph, MixingMatrix, metropolis_hastings, uniform

N, K = 6, 5
PAIRS = st.sets(st.tuples(st.integers(0, N - 1), st.integers(0, N - 1)), max_size=14)
LOSSLESS = Sparse()
POLICIES = ("self", "renormalise", "skip")


def drawn(
    pairs: set[tuple[int, int]], lost: set[tuple[int, int]], symmetric: bool, bare: bool
) -> tuple[Graph, MixingMatrix, list[tuple[int, int]]]:
    """(graph, weights, the lost among its edges); ``bare``: no node's own is in its sum."""
    kept = [(a, b) for a, b in pairs if a != b]
    graph = Graph.from_edges(N, [a for a, _ in kept], [b for _, b in kept], symmetric)
    weights = metropolis_hastings(graph) if symmetric else uniform(graph)
    if bare:
        receivers = np.repeat(np.arange(N), np.diff(weights.indptr))
        own = weights.indices == receivers
        keep = ~own | (np.diff(weights.indptr)[receivers] == 1)
        counts = np.bincount(receivers[keep], minlength=N)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        total = np.bincount(receivers[keep], weights.values[keep], N)[receivers[keep]]
        weights = MixingMatrix(indptr, weights.indices[keep], weights.values[keep] / total)
    edges = set(zip(graph.indices.tolist(), graph.receivers.tolist(), strict=True))
    return graph, weights, sorted(edges & lost)


def exchanged(block: Block, send: Send, lost: list[tuple[int, int]], policy: Any) -> Inbox:
    faults = Faults(lost=tuple((0, a, b) for a, b in lost), on_missing=policy)
    return Exchange(WallClock(), None, faults, True)(block, send, 0, 0)


def matrix(weights: MixingMatrix, lost: list[tuple[int, int]], policy: str) -> np.ndarray:
    """W as a policy leaves it, one number after the other."""
    w = weights.dense().copy()
    for i in range(N):
        gone = [a for a, b in lost if b == i]
        if not gone:
            continue
        if policy == "skip":
            w[i] = 0
            w[i, i] = 1
            continue
        total, missing = w[i].sum(), sum(w[i, j] for j in gone)
        for j in gone:
            w[i, j] = 0
        if policy == "self" or w[i].sum() <= 0:
            w[i, i] += missing
        else:
            w[i] *= total / w[i].sum()
    return w


@pytest.fixture
def block(make_job: Callable[..., Job]) -> Block:
    made = make_job({"nodes": N, "topology": "ring"}).block(np.arange(N))
    made.rows = torch.randn(N, K, generator=torch.Generator().manual_seed(0))
    return made


FEW = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


@FEW
@given(PAIRS, PAIRS, st.booleans(), st.booleans(), st.sampled_from(POLICIES), st.booleans())
def test_mixing_is_that_of_the_matrix_that_a_policy_leaves(
    block: Block,
    pairs: set[tuple[int, int]],
    gone: set[tuple[int, int]],
    symmetric: bool,
    bare: bool,
    policy: str,
    alias: bool,
) -> None:
    graph, weights, lost = drawn(pairs, gone, symmetric, bare)
    w, sent = matrix(weights, lost, policy), block.rows.clone()
    np.testing.assert_allclose(w.sum(1), weights.dense().sum(1), atol=1e-12)
    inbox = exchanged(block, Send(sent, graph), lost, policy)
    rows = sent if alias else sent + 1
    own, heard = rows.double().numpy(), sent.double().numpy()
    expected = np.diag(w)[:, None] * own + (w - np.diag(np.diag(w))) @ heard
    before = rows.clone()
    inbox.mix_(rows, weights)
    np.testing.assert_allclose(rows.double().numpy(), expected, rtol=1e-5, atol=1e-5)
    if policy == "skip":
        for i in {b for _, b in lost}:
            assert torch.equal(rows[i], before[i])
    assert len(inbox) == graph.edges - len(lost)
    for i in range(N):
        assert inbox.missing.of(i).tolist() == [a for a, b in lost if b == i]


@FEW
@given(PAIRS, PAIRS)
def test_mutual_losses_keep_the_mean_where_ones_own_stands_in(
    block: Block, pairs: set[tuple[int, int]], gone: set[tuple[int, int]]
) -> None:
    graph, weights, lost = drawn(pairs, gone | {(b, a) for a, b in gone}, True, False)
    assert {(b, a) for a, b in lost} == set(lost)
    np.testing.assert_allclose(matrix(weights, lost, "self").sum(0), 1, atol=1e-12)
    rows = block.rows.clone()
    exchanged(block, Send(rows, graph), lost, "self").mix_(rows, weights)
    torch.testing.assert_close(rows.mean(0), block.rows.mean(0))


def parts(rows: torch.Tensor, which: list[list[int]]) -> SparseRows:
    return SparseRows.of(rows, [np.array(sorted(set(p)), dtype=np.int64) for p in which])


SHARES = st.lists(
    st.lists(st.integers(0, K - 1), max_size=K) | st.just(list(range(K))), min_size=N, max_size=N
)


@FEW
@given(PAIRS, PAIRS, SHARES, st.booleans(), st.sampled_from(POLICIES))
def test_overlays_leave_out_what_is_missing(
    block: Block,
    pairs: set[tuple[int, int]],
    gone: set[tuple[int, int]],
    which: list[list[int]],
    symmetric: bool,
    policy: str,
) -> None:
    graph, weights, lost = drawn(pairs, gone, symmetric, False)
    w, rows = matrix(weights, lost, policy), block.rows.clone()
    expected = rows.double().numpy().copy()
    for i in range(N):
        for j in range(N):
            for c in set(which[j]) if i != j else ():
                expected[i, c] += w[i, j] * (float(rows[j, c]) - float(rows[i, c]))
    exchanged(block, Send(parts(rows, which), graph, LOSSLESS), lost, policy).overlay_(
        rows, weights
    )
    np.testing.assert_allclose(rows.double().numpy(), expected, rtol=1e-5, atol=1e-5)


@FEW
@given(PAIRS, PAIRS, SHARES, st.booleans(), st.booleans(), st.sampled_from(POLICIES))
def test_sums_are_of_those_who_came(
    block: Block,
    pairs: set[tuple[int, int]],
    gone: set[tuple[int, int]],
    which: list[list[int]],
    symmetric: bool,
    whole: bool,
    policy: str,
) -> None:
    """Nothing stands in for a number that was to be added."""
    graph, weights, lost = drawn(pairs, gone, symmetric, False)
    w, rows = weights.dense().copy(), block.rows
    np.fill_diagonal(w, 0)
    expected = np.ones((N, K))
    for i in range(N):
        here = [j for j in graph.row(i).tolist() if (j, i) not in lost]
        if policy == "skip" and len(here) < len(graph.row(i)):
            continue
        part = w[i, here].sum()
        factor = w[i].sum() / part if policy == "renormalise" and part > 0 else 1.0
        for j in here:
            for c in range(K) if whole else set(which[j]):
                expected[i, c] += factor * w[i, j] * float(rows[j, c])
    message = rows.clone() if whole else parts(rows, which)
    target = torch.ones(N, K)
    exchanged(block, Send(message, graph, Dense() if whole else LOSSLESS), lost, policy).add_(
        target, weights
    )
    np.testing.assert_allclose(target.double().numpy(), expected, rtol=1e-5, atol=1e-5)


@FEW
@given(PAIRS, PAIRS, SHARES, SHARES, st.sampled_from(POLICIES))
def test_means_over_holders_are_over_those_who_came(
    block: Block,
    pairs: set[tuple[int, int]],
    gone: set[tuple[int, int]],
    which: list[list[int]],
    own: list[list[int]],
    policy: str,
) -> None:
    """Whatever the policy: who is missing is a holder less."""
    graph, weights, lost = drawn(pairs, gone, True, False)
    w, rows = weights.dense(), block.rows.clone()
    held = np.zeros((N, K), dtype=bool)
    for i, holds in enumerate(own):
        held[i, holds] = True
    expected = rows.double().numpy().copy()
    for i in range(N):
        here = [j for j in graph.row(i).tolist() if (j, i) not in lost]
        for c in own[i]:
            terms = [(w[i, j], float(rows[j, c])) for j in here if c in which[j]]
            if terms:
                terms.append((w[i, i], float(rows[i, c])))
                total = sum(weight for weight, _ in terms)
                expected[i, c] = sum(weight * x for weight, x in terms) / total
    inbox = exchanged(block, Send(parts(rows, which), graph, LOSSLESS), lost, policy)
    inbox.mix_held_(rows, weights, held)
    np.testing.assert_allclose(rows.double().numpy(), expected, rtol=1e-5, atol=1e-5)


class Largest(Aggregator):
    """The largest of each number, and how many rows and weights there were."""

    def start(self, row: torch.Tensor) -> Any:
        return []

    def add(self, state: Any, rows: torch.Tensor, weights: Any = None) -> None:
        assert abs(float(np.sum(weights)) - 1) < 1e-9
        state.extend(rows)

    def end(self, state: Any) -> torch.Tensor:
        return torch.stack(state).amax(0)


@FEW
@given(PAIRS, PAIRS, SHARES, st.booleans(), st.sampled_from(POLICIES))
def test_aggregators_are_given_what_came_with_weights_that_sum_to_one(
    block: Block,
    pairs: set[tuple[int, int]],
    gone: set[tuple[int, int]],
    which: list[list[int]],
    whole: bool,
    policy: str,
) -> None:
    graph, weights, lost = drawn(pairs, gone, True, False)
    rows = block.rows.clone()
    expected = rows.clone()
    for i in range(N):
        here = [j for j in graph.row(i).tolist() if (j, i) not in lost]
        if policy == "skip" and len(here) < len(graph.row(i)):
            continue
        for j in here:
            for c in range(K) if whole else set(which[j]):
                expected[i, c] = max(expected[i, c], rows[j, c])
    message = rows.clone() if whole else parts(rows, which)
    inbox = exchanged(block, Send(message, graph, Dense() if whole else LOSSLESS), lost, policy)
    aggregate_(inbox, rows, weights, Largest())
    assert torch.equal(rows, expected)


def test_the_mean_of_an_aggregator_is_the_mixing(block: Block) -> None:
    graph, weights, lost = drawn({(0, 1), (1, 2), (2, 0)}, {(0, 1)}, True, False)
    one, other = block.rows.clone(), block.rows.clone()
    aggregate_(exchanged(block, Send(one, graph), lost, "self"), one, weights, Mean())
    exchanged(block, Send(other, graph), lost, "self").mix_(other, weights)
    assert torch.equal(one, other)


@pytest.mark.parametrize("other", [[(0, 1)], [(0, 1), (1, 2), (2, 3)]])
def test_weights_of_another_graph_are_refused_where_messages_are_missing(
    block: Block, other: list[tuple[int, int]]
) -> None:
    graph, _, lost = drawn({(0, 1), (1, 2)}, {(0, 1)}, True, False)
    inbox = exchanged(block, Send(block.rows, graph), lost, "self")
    wrong = Graph.from_edges(N, [a for a, _ in other], [b for _, b in other], True)
    with pytest.raises(ValueError, match="not those of the graph"):
        inbox.mix_(block.rows, metropolis_hastings(wrong))


# -- what is lost ------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**63), st.floats(0.05, 0.95))
def test_losses_are_as_frequent_as_asked_for_and_named_by_their_ends(
    seed: int, chance: float
) -> None:
    faults, streams = Faults(loss=chance), Streams(seed - 2**62)
    senders, receivers = (x.ravel() for x in np.meshgrid(np.arange(100), np.arange(100)))
    gone = faults.of(streams, When(3, "", 0), "model", senders, receivers)
    spread = 6 * np.sqrt(chance * (1 - chance) / len(gone))
    assert abs(gone.mean() - chance) < spread
    table = gone.reshape(100, 100)
    wide = 6 * np.sqrt(chance * (1 - chance) / 100)
    assert (abs(table.mean(0) - chance) < wide).all()
    assert (abs(table.mean(1) - chance) < wide).all()
    assert abs((table & table.T)[~np.eye(100, dtype=bool)].mean() - chance**2) < spread
    some = np.random.default_rng(0).permutation(len(gone))[:50]
    again = faults.of(streams, When(3, "", 0), "model", senders[some], receivers[some])
    assert np.array_equal(again, gone[some])
    for other in (When(4, "", 0), When(3, "", 1)):
        assert not np.array_equal(faults.of(streams, other, "model", senders, receivers), gone)
    assert not np.array_equal(faults.of(streams, When(3, "", 0), "other", senders, receivers), gone)


def test_the_list_of_lost_messages_names_kind_and_exchange() -> None:
    faults = Faults(lost=((2, 0, 1), (2, 1, 2, "part"), (2, 2, 3, "part", 1)))
    senders, receivers = np.array([0, 1, 2, 3]), np.array([1, 2, 3, 0])

    def gone(when: When, kind: str) -> list[bool]:
        found: list[bool] = faults.of(Streams(1), when, kind, senders, receivers).tolist()
        return found

    assert gone(When(2, "", 0), "model") == [True, False, False, False]
    assert gone(When(2, "", 0), "part") == [True, True, False, False]
    assert gone(When(2, "part", 1), "part") == [True, True, True, False]
    assert gone(When(1, "", 0), "part") == [False] * 4


def test_a_policy_of_the_run_file_spares_what_is_waited_for() -> None:
    for said in POLICIES:
        assert Faults().policy(said) == said  # type: ignore[arg-type]
        assert Faults(on_missing="wait").policy(said) == "wait"  # type: ignore[arg-type]
    for over in POLICIES:
        assert Faults(on_missing=over).policy("wait") == "wait"  # type: ignore[arg-type]
        assert Faults(on_missing=over).policy("abort") == "abort"  # type: ignore[arg-type]
    assert Faults(on_missing="abort").policy("wait") == "abort"
    assert Faults(on_missing="wait").policy("abort") == "abort"


# -- counted, recorded, timed --------------------------------------------------------------------

LINE = Graph.from_edges(N, [0, 1], [1, 2])


def start_counters(block: Block) -> None:
    for name in ("messages_resent", "bytes_resent", "messages_missing"):
        block.state[name] = torch.zeros(N, dtype=torch.int64)


def test_a_lost_message_is_counted_as_sent_and_not_as_received(block: Block) -> None:
    start_counters(block)
    inbox = exchanged(block, Send(block.rows, LINE), [(0, 1)], "self")
    size = 4 * K + 64
    for name, expected in (
        ("messages_sent", [1, 1]),
        ("bytes_sent", [size, size]),
        ("messages_received", [0, 0, 1]),
        ("bytes_received", [0, 0, size]),
        ("messages_missing", [0, 1]),
        ("messages_resent", []),
    ):
        assert block.state[name].tolist() == expected + [0] * (N - len(expected)), name
    assert inbox.lost.tolist() == [True, False]
    event = {
        "kind": "missing", "of": "model", "exchange": 0, "cause": "lost", "outcome": "self",
        "senders": [0], "receivers": [1],
    }  # fmt: skip
    assert block.events == [event]


def test_what_is_waited_for_is_sent_again_and_comes_later(block: Block) -> None:
    start_counters(block)
    clock = ModelledClock(bandwidth=84.0, latency=0.5)
    clock.start(block)
    faults = Faults(lost=((0, 0, 1),), on_missing="wait", patience=3.0)
    inbox = Exchange(clock, None, faults, False)(block, Send(block.rows, LINE), 0, 0)
    assert not len(inbox.missing)
    assert inbox.senders.tolist() == [0, 1]
    assert inbox.arrivals.tolist() == [1.5 + 3.0 + 1.5, 1.5]
    assert block.state["modelled_time"].tolist()[:3] == [0.0, 6.0, 1.5]
    assert block.state["messages_resent"].tolist()[:2] == [1, 0]
    assert block.state["bytes_resent"].tolist()[:2] == [4 * K + 64, 0]
    assert block.state["bytes_sent"].tolist()[:2] == [4 * K + 64] * 2
    assert block.state["messages_received"].tolist()[:3] == [0, 1, 1]
    assert block.events[0]["outcome"] == "wait"


def test_who_waits_in_vain_waits_for_as_long_as_its_patience(block: Block) -> None:
    clock = ModelledClock(bandwidth=84.0, latency=0.5)
    clock.start(block)
    block.state["modelled_time"] += 10
    faults = Faults(lost=((0, 0, 1),), patience=3.0)
    Exchange(clock, None, faults, True)(block, Send(block.rows, LINE), 0, 0)
    assert block.state["modelled_time"].tolist()[:4] == [10.0, 13.0, 11.5, 10.0]


def test_to_abort_names_the_round_and_both_ends(block: Block) -> None:
    with pytest.raises(RunError, match=r"from node 0 to node 1 did not come") as caught:
        exchanged(block, Send(block.rows, LINE, on_missing="abort"), [(0, 1)], None)
    assert (caught.value.node, caught.value.round) == (1, 1)
    assert caught.value.repeats  # what is lost follows from the seed


@pytest.mark.parametrize(
    ("faults", "field", "words"),
    [
        ({"lost": [[0, 9, 1]]}, "faults.lost.0", "no message of the run"),
        ({"lost": [[0, 1, 2], [-1, 0, 1]]}, "faults.lost.1", "no message of the run"),
        ({"lost": [[0, 1, 1]]}, "faults.lost.0", "no message of the run"),
        ({"absent": {"9": [[0, 1]]}}, "faults.absent.9", "no node"),
        ({"loss": 1.5}, "faults.loss", "less than or equal to 1"),
        ({"on_missing": "hope"}, "faults.on_missing", "wait"),
    ],
)
def test_faults_that_cannot_be_are_refused(
    make_job: Callable[..., Job], faults: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        make_job({"faults": faults})
    assert caught.value.field == field
