"""Stores and draws: what is kept once, what never leaves, what is refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import WireError
from hansa.codec import Table, Tables
from hansa.engine import Block, Job, Send
from hansa.recommend import choosing, outgoing, stepping, storing
from hansa.recommend.choosing import Wanted
from hansa.recommend.exposure import Exposure

from .rated import ITEMS, USERS, rated_job

NODES = 6
Rating = tuple[int, int, float]


@pytest.fixture(scope="module")
def job() -> Job:
    return rated_job(NODES, ratings=12, topology={"name": "ring"})


def owned(block: Block, positions: Any) -> list[set[Rating]]:
    """What each node has of some positions in the training examples, as (user, item, stars)."""
    rated = []
    for part in positions:
        split = block.trainer.dataset.train.take(np.asarray(part))
        pairs = split.inputs.tolist()
        rated.append({(*p, r) for p, r in zip(pairs, split.targets.tolist(), strict=True)})
    return rated


def drawn(block: Block, t: int, count: int) -> Tables:
    """Ratings of each node, for whom it may be."""
    return choosing.drawn(block, t, count, [*map(Wanted, range(len(block)))], Exposure())[0]


def exchanged(job: Job, block: Block, t: int, one: bool, count: int = 12) -> Tables:
    to = outgoing.Receivers.of(block, t, one)
    ratings = drawn(block, t, count)
    ratings = to.on_edges(ratings, to.chosen) if one else ratings
    inbox = job.exchange()(block, Send(ratings, to.graph, Table(), each=one), t, 0)
    storing.take(block, inbox, t, Exposure())
    return ratings


@settings(max_examples=10)
@given(st.booleans(), st.integers(1, 60), st.integers(1, 4))
def test_stores_only_grow_and_their_union_stays(
    job: Job, one: bool, count: int, rounds: int
) -> None:
    block = job.block(np.arange(NODES))
    union = set().union(*owned(block, block.parts))
    tests = set().union(*owned(block, block.held))
    assert not union & tests
    before = owned(block, block.parts)
    for t in range(rounds):
        sent = exchanged(job, block, t, one, count)
        on_its_way = zip(*(c.tolist() for c in sent.columns.values()), strict=True)
        assert not {*on_its_way} & tests  # a test rating never leaves its owner
        after = owned(block, block.parts)
        assert all(a >= b for a, b in zip(after, before, strict=True))
        assert set().union(*after) == union
        sizes = [len(each) for each in after]
        assert block.store is not None
        assert sizes == block.store.sizes.tolist()  # nothing is there twice
        before = after


def test_what_is_sent_again_changes_nothing(job: Job) -> None:
    block = job.block(np.arange(NODES))
    exchanged(job, block, 0, one=False)
    assert block.store is not None
    once = block.store.sizes
    came = block.report["ratings_received"]
    exchanged(job, block, 0, one=False, count=0)
    everything = [part.copy() for part in block.parts]
    for k in range(NODES):
        block.store.add(k, block.store.table(k))
    assert (block.store.sizes == once).all()
    assert all((a == b).all() for a, b in zip(everything, block.parts, strict=True))
    assert (came == 24).all()  # two neighbours on a ring


@pytest.mark.parametrize("one", [True, False])
def test_on_a_connected_graph_everybody_gets_everything(job: Job, one: bool) -> None:
    block = job.block(np.arange(NODES))
    total = sum(map(len, block.parts))
    for t in range(60):
        exchanged(job, block, t, one, count=80)
    assert block.store is not None
    assert (block.store.sizes == total).all()


def test_draws_are_without_replacement_and_new_in_every_round(job: Job) -> None:
    block = job.block(np.arange(NODES))
    first, second = (stepping.drawn(block, t, 15, 2) for t in (0, 1))
    for k, part in enumerate(block.parts):
        for some in (first[k], second[k]):
            assert len(some) == 30
            assert len({*some[:15]}) == len({*some[15:]}) == 15
            assert {*some} <= {*part.tolist()}
        assert {*first[k]} != {*second[k]}
    again = stepping.drawn(job.block(np.arange(NODES)), 0, 15, 2)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    other = rated_job(NODES, seed=2).block(np.arange(NODES))
    assert any((a != b).any() for a, b in zip(first, stepping.drawn(other, 0, 15, 2), strict=True))
    # More steps than ratings: each once.
    whole = stepping.drawn(block, 0, 10**6, 1)
    assert all(np.array_equal(np.sort(a), p) for a, p in zip(whole, block.parts, strict=True))


def test_draws_do_not_depend_on_who_else_is_here(job: Job) -> None:
    block = job.block(np.arange(NODES))
    some = job.block(np.array([1, 4]))
    sent, mine = drawn(block, 3, 9), drawn(some, 3, 9)
    walks, own = (outgoing.Receivers.of(b, 3, one=True) for b in (block, some))
    graph = block.graph(3).transpose()
    for k, node in enumerate((1, 4)):
        for a, b in zip(sent.table(node).values(), mine.table(k).values(), strict=True):
            assert (a == b).all()
        picked = walks.chosen[node] - graph.indptr[node]
        assert picked == own.chosen[k] - graph.rows(some.ids)[0][k]


def test_empty_messages_go_to_those_who_get_nothing(job: Job) -> None:
    block = job.block(np.arange(NODES))
    sent = exchanged(job, block, 0, one=True)
    assert (sent.counts > 0).sum() == NODES
    assert len(sent) == 2 * NODES
    assert (block.state["messages_sent"] == 2).all()
    assert (block.state["messages_received"] == 2).all()


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ((USERS, 0, 3.0), f"user {USERS} for item 0, 3 stars; there are {USERS} users"),
        ((0, -1, 3.0), "item -1"),
        ((0, ITEMS, 3.0), f"item {ITEMS}"),
        ((1, 2, 5.5), "5.5 stars.*0.5 to 5 stars"),
        ((1, 2, 0.0), "0 stars"),
        ((1, 2, float("nan")), "nan stars"),
    ],
)
def test_what_no_rating_can_be_is_refused_by_who_sent_it(
    job: Job, bad: Rating, problem: str
) -> None:
    block = job.block(np.arange(NODES))
    to = outgoing.Receivers.of(block, 0, one=False)
    each = [(0, 0, 3.0)] * NODES
    each[4] = bad
    pairs = np.array([e[:2] for e in each], dtype=np.int64)
    stars = np.array([e[2] for e in each], dtype=np.float32)
    ratings = outgoing.table(pairs, stars, np.arange(NODES + 1))
    inbox = job.exchange()(block, Send(ratings, to.graph, Table()), 0, 0)
    with pytest.raises(WireError, match=f"node 4 sent a rating of .*{problem}"):
        storing.take(block, inbox, 0, Exposure())
    assert block.store is not None
    assert not block.store.gathered.any()


def test_columns_of_another_form_are_refused(job: Job) -> None:
    block = job.block(np.arange(NODES))
    to = outgoing.Receivers.of(block, 0, one=False)
    other = Tables.rows(
        user=np.zeros(NODES, np.int64), item=np.zeros(NODES, np.int32), stars=np.ones(NODES)
    )
    inbox = job.exchange()(block, Send(other, to.graph, Table()), 0, 0)
    with pytest.raises(WireError, match=r"columns .*int32"):
        storing.take(block, inbox, 0, Exposure())
