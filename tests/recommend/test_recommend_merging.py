"""Merging rows that only some nodes hold, against the rules as they are written."""

from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.codec import Sparse
from hansa.engine import Block, Job, Send
from hansa.recommend import outgoing, row_merging
from hansa.recommend.row_merging import HELD

from .rated import rated_job

NODES = 5
GRAPHS = st.sampled_from(
    [
        {"name": "ring"},
        {"name": "complete"},
        {"name": "star"},
        {"name": "small_world", "neighbours": 2, "rewire": 0.5},
    ]
)
JOBS: dict[str, Job] = {}


def block_of(topology: dict[str, Any], seed: int, holds: float) -> tuple[Job, Block]:
    """Nodes with rows of random numbers, each of which holds some groups, the shared one always."""
    job = JOBS.setdefault(str(topology), rated_job(NODES, topology=topology, share="model"))
    block = job.block(np.arange(NODES))
    random = np.random.default_rng(seed)
    held = random.random(block.state[HELD].shape) < holds
    held[:, -1] = True
    block.state[HELD].numpy()[:] = held
    block.rows.copy_(torch.from_numpy(random.standard_normal(block.rows.shape)))
    return job, block


def merged(job: Job, block: Block, t: int, one: bool) -> None:
    to = outgoing.Receivers.of(block, t, one)
    rows = to.rows(row_merging.held_rows(block, to.speaks))
    inbox = job.exchange()(block, Send(rows, to.graph, Sparse(), each=one), t, 0)
    if one:
        row_merging.halve(block, inbox)
    else:
        row_merging.average(block, inbox, to.graph)


def grouped(block: Block) -> tuple[np.ndarray, np.ndarray]:
    held = block.state[HELD].numpy().copy()
    return block.rows.numpy().reshape(*held.shape, -1).astype(np.float64), held


@settings(max_examples=25)
@given(GRAPHS, st.integers(0, 2**16), st.sampled_from([0.0, 0.3, 0.7, 1.0]))
def test_walks_halve_what_both_hold_and_copy_what_is_new(
    topology: dict[str, Any], seed: int, holds: float
) -> None:
    job, block = block_of(topology, seed, holds)
    before, held = grouped(block)
    wanted, holding = before.copy(), held.copy()
    graph, to = block.graph(0), outgoing.Receivers.of(block, 0, one=True)
    edges = [(j, i) for j in range(NODES) for i in graph.transpose().row(j).tolist()]
    assert len(edges) == to.edges
    for j, i in (edges[e] for e in np.sort(to.chosen)):  # by sender, for every receiver
        for g in np.flatnonzero(held[j]):
            wanted[i, g] = (wanted[i, g] + before[j, g]) / 2 if holding[i, g] else before[j, g]
            holding[i, g] = True
    merged(job, block, 0, one=True)
    after, now = grouped(block)
    assert (now == holding).all()
    assert np.allclose(after, wanted, atol=1e-6)
    heard = {i for j, i in (edges[e] for e in to.chosen)}
    silent = [i for i in range(NODES) if i not in heard]
    assert (after[silent] == before[silent]).all()
    # What only the other has is taken over as it is, its bias too.
    for i in heard:
        senders = [j for j, k in (edges[e] for e in to.chosen) if k == i]
        new = ~held[i] & (held[senders].sum(0) == 1)
        for g in np.flatnonzero(new):
            (source,) = [j for j in senders if held[j, g]]
            assert (after[i, g] == before[source, g]).all()


def reference_dpsgd(
    before: np.ndarray, held: np.ndarray, neighbours: list[list[int]]
) -> np.ndarray:
    """Section 1.6: own weight 1 - sum of those who hold; a newcomer's by 1 / degree."""
    wanted, degree = before.copy(), [len(near) for near in neighbours]
    for i, near in enumerate(neighbours):
        for g in range(held.shape[1]):
            holders = [j for j in near if held[j, g]]
            if not holders:
                continue
            if held[i, g]:
                weights = {j: 1 / (1 + max(degree[i], degree[j])) for j in holders}
                weights[i] = 1 - sum(weights.values())
            else:
                total = sum(1 / degree[j] for j in holders)
                weights = {j: 1 / degree[j] / total for j in holders}
            assert abs(sum(weights.values()) - 1) < 1e-12
            wanted[i, g] = sum(w * before[j, g] for j, w in weights.items())
    return wanted


@settings(max_examples=25)
@given(GRAPHS, st.integers(0, 2**16), st.sampled_from([0.0, 0.3, 0.7, 1.0]))
def test_dpsgd_lends_the_weight_of_those_who_lack_a_row(
    topology: dict[str, Any], seed: int, holds: float
) -> None:
    job, block = block_of(topology, seed, holds)
    before, held = grouped(block)
    near = [block.graph(0).row(i).tolist() for i in range(NODES)]
    merged(job, block, 0, one=False)
    after, now = grouped(block)
    assert np.allclose(after, reference_dpsgd(before, held, near), atol=1e-6)
    for i in range(NODES):
        assert (now[i] == (held[i] | held[near[i]].any(0))).all()


@given(GRAPHS, st.booleans(), st.integers(0, 2**16))
@settings(max_examples=10)
def test_weights_sum_to_one_whoever_holds_what(
    topology: dict[str, Any], one: bool, seed: int
) -> None:
    """Where all holders of a group agree on it, whoever hears it agrees with them."""
    job, block = block_of(topology, seed, 0.4)
    common = np.random.default_rng(seed + 1).standard_normal(block.rows.shape[1])
    held = np.repeat(block.state[HELD].numpy(), 4, axis=1)
    rows = np.where(held, common, 0).astype(np.float32)
    block.rows.copy_(torch.from_numpy(rows))
    for t in range(4):
        merged(job, block, t, one)
        held = np.repeat(block.state[HELD].numpy(), 4, axis=1)
        wanted = np.where(held, common, 0)
        assert np.allclose(block.rows.numpy(), wanted, atol=1e-5)


def test_merging_alone_comes_to_one_model() -> None:
    """On a connected graph; to the mean where degrees match and all hold everything."""
    for one in (True, False):
        job, block = block_of({"name": "ring"}, 3, 1.0)
        mean = block.rows.mean(0)
        for t in range(120):
            merged(job, block, t, one)
        assert torch.allclose(block.rows, block.rows[:1].expand_as(block.rows), atol=1e-4)
        if not one:
            assert torch.allclose(block.rows[0], mean, atol=1e-4)
        job, block = block_of({"name": "star"}, 4, 0.3)
        some = block.state[HELD].any(0)
        for t in range(200):
            merged(job, block, t, one)
        assert (block.state[HELD] == some).all()
        groups = block.rows.view(NODES, len(some), -1)[:, some]
        assert torch.allclose(groups, groups[:1].expand_as(groups), atol=1e-3)
