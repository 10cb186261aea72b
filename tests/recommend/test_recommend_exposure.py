"""How far ratings go, whatever nodes send: never further, never to more, never for longer."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import WireError
from hansa.engine import Block
from hansa.recommend.exposure import AGE, TOKENS, Exposure, holders

from .rated import rated_job

RECONCILE = st.sampled_from(["none", "remembered", "digest"])


def owners(block: Block) -> dict[int, int]:
    """Who was dealt each rating, by the rating's number."""
    assert block.store is not None
    dealt = block.store.sizes - block.store.gathered
    return {
        int(key): int(node)
        for node, count in zip(block.ids, dealt, strict=True)
        for key in block.store.keys(int(node))[:count]
    }


def distances(block: Block) -> np.ndarray:
    """How many links apart nodes are, int64 [n, n]."""
    near = np.eye(block.nodes, dtype=bool)
    graph, far = block.graph(0), np.full((block.nodes, block.nodes), block.nodes)
    for links in range(block.nodes):
        far[near & (far > links)] = links
        near = near | np.stack([near[:, graph.row(i)].any(1) for i in range(block.nodes)], axis=1)
    return far


@pytest.mark.parametrize("dissemination", ["rmw", "dpsgd"])
@given(
    hops=st.none() | st.integers(1, 3),
    budget=st.none() | st.integers(1, 9),
    expiry=st.none() | st.integers(1, 4),
    capacity=st.none() | st.integers(0, 60),
    reconcile=RECONCILE,
    loss=st.sampled_from([None, 0.2]),
    seed=st.integers(0, 99),
)
@settings(max_examples=12)
def test_no_limit_is_ever_passed(
    dissemination: str,
    host: Callable[..., Any],
    reconcile: str,
    loss: Any,
    seed: int,
    **limits: Any,
) -> None:
    job = rated_job(
        nodes=8,
        rounds=6,
        seed=seed,
        topology={"name": "ring"},
        faults={"loss": loss} if loss else None,
        dissemination=dissemination,
        reconcile=reconcile,
        rating_codec="pair_gaps",
        ratings=20,
        exposure=limits,
    )
    block, reports = host(job)
    owner, far, store = owners(block), distances(block), block.store
    copies = np.zeros(max(owner) + 1, dtype=np.int64)
    for node in block.ids.tolist():
        keys = store.keys(node)
        assert len(np.unique(keys)) == len(keys)
        if limits["hops"] is not None:
            assert all(far[owner[key], node] <= limits["hops"] for key in keys.tolist())
        if limits["expiry"] is not None:
            left = store.noted(node, AGE)
            assert (left[left >= 0] > 5 - limits["expiry"]).all()
        if limits["budget"] is not None:
            copies[keys] += store.noted(node, TOKENS)
    copies[[*owner]] += holders(block)[np.argsort(np.argsort([*owner]))]
    if limits["budget"] is not None:
        assert (copies[[*owner]] <= 1 + limits["budget"]).all()
    if limits["capacity"] is not None:
        assert (store.gathered <= limits["capacity"]).all()
    if reconcile == "digest" and limits["capacity"] is None:
        assert sum(r["values"]["duplicates"].sum() for r in reports if r["round"]) == 0


def test_without_loss_or_expiry_no_copy_of_the_budget_gets_lost(host: Callable[..., Any]) -> None:
    block, _ = host(rated_job(nodes=8, exposure={"budget": 7}, rounds=8))
    spent = np.concatenate([block.store.noted(i, TOKENS) for i in range(8)]).astype(int).sum()
    assert spent + holders(block).sum() == 8 * len(holders(block))


def test_holders_are_counted_exactly(host: Callable[..., Any]) -> None:
    block, _ = host(rated_job())
    table = [{tuple(p) for p in block.store.table(i)["inputs"].tolist()} for i in range(6)]
    dealt = block.store.sizes - block.store.gathered
    mine = [tuple(p) for i in range(6) for p in block.store.table(i)["inputs"][: dealt[i]].tolist()]
    assert holders(block).tolist() == [sum(p in held for held in table) for p in sorted(mine)]


@pytest.mark.parametrize("reconcile", ["none", "digest"])
def test_padding_makes_a_walk_look_like_any_other_link(
    reconcile: str, host: Callable[..., Any]
) -> None:
    """Every message of every round is of one length, whether it says something or not."""
    padded = {"name": "padded", "codec": "pair_gaps", "block": 512}
    block, _ = host(rated_job(rating_codec=padded, reconcile=reconcile, rounds=3))
    exchanges = 2 if reconcile == "digest" else 1
    sent = set(block.state["bytes_sent"].tolist())
    assert len(sent) == 1  # three neighbours each
    assert sent.pop() // (3 * 3 * exchanges) in range(512, 600)


@pytest.mark.parametrize(("name", "value"), [("hops", 0), ("hops", 3), ("age", 4), ("tokens", 6)])
def test_copies_that_went_too_far_are_refused(name: str, value: int) -> None:
    exposure = Exposure(hops=2, expiry=4, budget=5)
    columns = {"hops": 1, "age": 0, "tokens": 0} | {name: value}
    with pytest.raises(WireError, match=f"{name} {value}"):
        exposure.check({n: np.array([v], dtype=np.uint8) for n, v in columns.items()})
