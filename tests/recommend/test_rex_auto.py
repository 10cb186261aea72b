"""Nodes that choose what they send: what is held back stays, and what is measured is so."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import ConfigError
from hansa.codec import Sparse
from hansa.engine.own_examples import INPUTS, TARGETS
from hansa.engine.runtimes.host import Host
from hansa.recommend import row_merging, weighing
from hansa.recommend.outgoing import Receivers
from hansa.recommend.weighing import CHOICE, DATA, DOUBT, ITEMS, MODEL, PROBE, WORTH, Weighing

from .rated import ITEMS as FILMS
from .rated import USERS, rated_job

OFTEN = {"every": 2, "probe": 0.2, "passes": 2}


def auto_job(**rex: Any) -> Any:
    return rated_job(share="auto", **{"weighing": OFTEN, "rounds": 6, **rex})


@given(
    dissemination=st.sampled_from(["rmw", "dpsgd"]),
    reconcile=st.sampled_from(["none", "remembered", "digest"]),
    capacity=st.sampled_from([None, 0, 30]),
    loss=st.sampled_from([None, 0.3]),
    seed=st.integers(0, 99),
)
@settings(max_examples=6)
def test_what_is_held_back_is_with_its_node_alone(
    host: Callable[..., Any], capacity: int | None, loss: Any, **how: Any
) -> None:
    faults = {"loss": loss} if loss else None
    block, _ = host(auto_job(ratings=60, faults=faults, exposure={"capacity": capacity}, **how))
    for node in range(6):
        dealt = block.store.dealt(node)
        held = block.store.noted(node, PROBE)
        assert held[dealt:].sum() == 0
        assert held.sum() == int(0.2 * dealt) > 0
        keys = block.store.keys(node)[held]
        for other in set(range(6)) - {node}:
            assert not np.isin(keys, block.store.keys(other)).any()


def test_measured_choices_are_the_same_in_blocks_apart(
    host: Callable[..., Any], host_apart: Callable[..., Any]
) -> None:
    block, _ = host(auto_job(exposure={"capacity": 0}, rounds=10))
    _, state, _ = host_apart(lambda: auto_job(exposure={"capacity": 0}, rounds=10), 3)
    assert torch.equal(state[CHOICE], block.state[CHOICE])
    for name in (WORTH, DOUBT):
        assert torch.equal(state[name].nan_to_num(), block.state[name].nan_to_num())


def test_rows_take_the_place_of_ratings_that_nobody_keeps(host: Callable[..., Any]) -> None:
    """Where stores may not grow a byte of ratings is worth nothing, and models are sent."""
    block, reports = host(auto_job(exposure={"capacity": 0}, rounds=16))
    assert (block.state[WORTH][:, DATA].numpy() == 0).all()
    sent = np.array([r["values"]["sends_items"] + r["values"]["sends_model"] for r in reports])
    assert sent[0].sum() == 0
    assert sent[-1].sum() > 0


def test_worth_is_what_a_trial_by_hand_says(host: Callable[..., Any]) -> None:
    """Without local work the trial is the mean of two models; all models are drawn at random."""
    job = auto_job(steps=0, rounds=1, weighing={"every": 1, "probe": 0.3, "sample": 4})
    block = job.block(np.arange(6))
    random = torch.Generator().manual_seed(3)
    block.rows.copy_(torch.rand(block.rows.shape, generator=random))
    block.state[row_merging.HELD][:] = True
    first = block.rows.clone()
    pairs = [block.store.table(n, np.flatnonzero(block.store.noted(n, PROBE))) for n in range(6)]
    to = Receivers.of(block, 0, one=True)
    links = to.links(block)
    Host(job, block, job.exchange(), lambda values: None, lambda block, done: None).run()

    group, measured = 4, []
    sizes = [
        int(Sparse().size(row_merging.held_rows(block, np.ones(6, bool), items=some))[0])
        for some in (True, False)
    ]
    for node in range(6):
        _, neighbour = links[int(to.chosen[node])]
        rows = first[node].view(-1, group), first[neighbour].view(-1, group)
        asked = block.streams.own.numpy("rex wishes", node, 0)
        users = asked.permutation(np.unique(pairs[node][INPUTS][:, 0]))[:16]
        films = asked.permutation(np.unique(pairs[node][INPUTS][:, 1]))[:4]
        errors = []
        for taken in ([], [USERS + films], [USERS + films, users, [USERS + FILMS]]):
            mine = rows[0].clone()
            for groups in taken:
                for g in np.asarray(groups).tolist():
                    mine[g] = (mine[g] + rows[1][g]) / 2
            mean = mine[USERS + FILMS, 0]
            guesses = [
                float(
                    mean + mine[u, -1] + mine[USERS + i, -1] + mine[u, :-1] @ mine[USERS + i, :-1]
                )
                for u, i in pairs[node][INPUTS].tolist()
            ]
            errors.append((np.array(guesses) - pairs[node][TARGETS]) ** 2)
        measured.append([errors[0] - each for each in errors[1:]])
    graph = block.graph(0)
    for node in range(6):
        group_of = [node, *graph.row(node).tolist()]
        for kind, nbytes in ((ITEMS, sizes[0]), (MODEL, sizes[1])):
            together = np.concatenate([measured[n][kind - 1] for n in group_of])
            worth = float(block.state[WORTH][node, kind])
            assert np.isclose(worth * nbytes, together.mean(), rtol=1e-4, atol=1e-6)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_choices_go_by_worth_beyond_doubt(seed: int) -> None:
    """Held against the rule written out for one node at a time, over several measurings."""
    random = np.random.default_rng(seed)
    block = rated_job(share="auto").block(np.arange(6))
    worth, doubts = np.full((6, 3), np.nan), np.full((6, 3), np.nan)
    for _ in range(3):
        fell = random.normal(0, 1, (6, 3))
        fell[random.random((6, 3)) < 0.3] = np.nan
        doubt, nbytes = random.random((6, 3)), random.integers(1, 9, (6, 3)).astype(float)
        weighing.learn(block, fell.copy(), doubt, nbytes)
        for k in range(6):
            for c in range(3):
                if np.isnan(fell[k, c]):
                    continue
                now, off = fell[k, c] / nbytes[k, c], doubt[k, c] / nbytes[k, c]
                if np.isnan(worth[k, c]):
                    worth[k, c], doubts[k, c] = now, off
                else:
                    worth[k, c] = worth[k, c] / 2 + now / 2
                    doubts[k, c] = (doubts[k, c] ** 2 / 4 + off**2 / 4) ** 0.5
            choice = DATA
            if not np.isnan(worth[k, DATA]):
                best = max(worth[k, DATA] + doubts[k, DATA], 0)
                for c in (ITEMS, MODEL):
                    if worth[k, c] - doubts[k, c] > best:
                        best, choice = worth[k, c] - doubts[k, c], c
            assert block.state[CHOICE][k] == choice
        assert np.allclose(block.state[WORTH].numpy(), worth, equal_nan=True)


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ConfigError, match="heard by those") as caught:
        rated_job(share="auto", topology={"name": "exponential"})
    assert caught.value.field == "algorithm.share"
    assert [t for t in range(50) if Weighing(every=20).due(t)] == [19, 39]
