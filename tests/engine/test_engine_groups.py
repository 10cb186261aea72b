"""Groups of adjacent numbers mix as their numbers one by one."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.codec import Sparse, SparseRows
from hansa.engine import Algorithm, Block, Job, Script, Send
from hansa.engine.exchange.holders import mix_held_rows_
from hansa.engine.exchange.overlay import add_sparse_, overlay_sparse_


@st.composite
def parts(draw: st.DrawFn) -> tuple[SparseRows, np.random.Generator]:
    group, places, n = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 4))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = torch.from_numpy(random.standard_normal((n, places * group)).astype(np.float32))
    chosen = [np.flatnonzero(random.random(places) < 0.5) for _ in range(n)]
    return SparseRows.of(rows, chosen, group), random


@settings(max_examples=60, deadline=None)
@given(parts())
def test_groups_are_laid_over_and_added_as_their_numbers_are(
    drawn: tuple[SparseRows, np.random.Generator],
) -> None:
    table, random = drawn
    n = len(table)
    indptr = np.arange(n + 1) * n
    slots, weights = np.tile(np.arange(n), n), random.random(n * n)
    x = torch.from_numpy(random.standard_normal((n, table.size)).astype(np.float32))
    for work in (overlay_sparse_, add_sparse_):
        ends = (indptr[:-1], indptr[1:]) if work is overlay_sparse_ else (indptr,)
        one, other = x.clone(), x.clone()
        work(one, *ends, slots, weights, table)  # type: ignore[operator]
        work(other, *ends, slots, weights, table.single())  # type: ignore[operator]
        assert torch.equal(one, other)


# -- means over those who hold a group ------------------------------------------------------------


def plain_mean(
    x: np.ndarray,
    held: np.ndarray,
    terms: list[list[tuple[int, float, float]]],
    table: SparseRows,
    lend: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Number by number, in sender order, as the definition says."""
    new, holds = x.copy(), held.copy()
    single = table.single()
    sent = [
        dict(zip(*(np.asarray(a) for a in single.row(k)), strict=True)) for k in range(len(table))
    ]
    for i, own in enumerate(terms):
        for c in range(x.shape[1]):
            mine = held[i, c // table.group]
            total, weight, heard = np.float32(0), 0.0, False
            for slot, w, take in own:
                if slot < 0:
                    if mine and not lend:
                        total, weight = total + np.float32(w) * x[i, c], weight + w
                elif c in sent[slot]:
                    v = sent[slot][c] - x[i, c] if lend and mine else sent[slot][c]
                    use = w if mine else take
                    total, weight, heard = total + np.float32(use) * v, weight + use, True
            if heard and weight > 0:
                new[i, c] = x[i, c] + total if lend and mine else total / np.float32(weight)
                holds[i, c // table.group] = True
    return new, holds


@settings(max_examples=60, deadline=None)
@given(parts(), st.booleans(), st.booleans())
def test_a_mean_is_over_those_who_hold_a_group(
    drawn: tuple[SparseRows, np.random.Generator], take: bool, lend: bool
) -> None:
    table, random = drawn
    n = len(table)
    x = random.standard_normal((n, table.size)).astype(np.float32)
    held = random.random((n, table.places)) < 0.5
    terms = []
    for i in range(n):
        others = np.flatnonzero(random.random(n) < 0.7)
        whole = sorted({*others.tolist(), i})
        terms.append(
            [
                (-1 if j == i else j, float(random.random()), float(random.random()) * take)
                for j in whole
            ]
        )
    flat = [term for own in terms for term in own]
    slots, weights, takes = (np.array(column) for column in zip(*flat, strict=True))
    indptr = np.concatenate([[0], np.cumsum([len(own) for own in terms])])
    expected, holds = plain_mean(x, held, terms, table, lend)

    whole, after = torch.from_numpy(x.copy()), held.copy()
    mix_held_rows_(whole, after, indptr, slots, weights, takes, table, lend)
    assert whole.numpy().tobytes() == expected.tobytes()
    assert np.array_equal(after, holds)
    # A receiver alone gets the same, and numbers one by one do.
    for i in range(n):
        span = slice(indptr[i], indptr[i + 1])
        one, some = torch.from_numpy(x[i : i + 1].copy()), held[i : i + 1].copy()
        bounds = np.array([0, indptr[i + 1] - indptr[i]])
        mix_held_rows_(one, some, bounds, slots[span], weights[span], takes[span], table, lend)
        assert torch.equal(one[0], whole[i])
    each = torch.from_numpy(x.copy())
    single = np.repeat(held, table.group, axis=1)
    mix_held_rows_(each, single, indptr, slots, weights, takes, table.single(), lend)
    assert torch.equal(each, whole)


def test_what_is_held_fits_the_messages() -> None:
    table = SparseRows.of(torch.zeros(1, 6), [np.array([1])], 2)
    none = np.zeros(0)
    with pytest.raises(ValueError, match="is due"):
        mix_held_rows_(
            torch.zeros(1, 6),
            np.zeros((1, 6), bool),
            np.zeros(2, np.int64),
            none,
            none,
            none,
            table,
        )


class Holders(Algorithm):
    """Everybody knows some groups of ten numbers at first, and hears of others."""

    name = "holders"
    group: ClassVar[int] = 10
    tolerates_loss: ClassVar[bool] = True

    def start(self, block: Block) -> None:
        places = block.rows.shape[1] // self.group
        rows = [
            block.streams.numpy("rows", int(i)).standard_normal(block.rows.shape[1])
            for i in block.ids
        ]
        block.rows[:] = torch.from_numpy(np.stack(rows).astype(np.float32))
        held = [block.streams.numpy("held", int(i)).random(places) < 0.4 for i in block.ids]
        block.state["held"] = torch.from_numpy(np.stack(held))

    def round(self, block: Block, t: int) -> Script:
        graph, held = block.graph(t), block.state["held"].numpy()
        parts = SparseRows.of(block.rows, [np.flatnonzero(h) for h in held], self.group)
        inbox = yield Send(parts, graph, Sparse())
        weights = block.mixing(graph, "metropolis_hastings")
        inbox.mix_held_(block.rows, weights, held, take=weights if t else None)


@pytest.mark.parametrize("policy", ["self", "skip"])
def test_a_holder_who_is_not_heard_is_one_less(
    make_job: Callable[..., Job],
    host: Callable[..., Any],
    host_apart: Callable[..., Any],
    policy: str,
) -> None:
    """Nothing stands in for what is lost, whatever the policy says."""
    lost = [(0, 1, 0)]

    def job(faults: dict[str, Any]) -> Job:
        made = make_job({"rounds": 1, "topology": "ring", "faults": faults})
        made.algorithm = Holders()
        return made

    faults = {"lost": lost, "on_missing": policy}
    block, _ = host(job(faults))
    assert torch.equal(host_apart(lambda: job(faults), 3)[0], block.rows)
    whole, _ = host(job({}))
    start = job(faults).block(np.arange(8))
    x, held = start.rows[:, :910].reshape(8, 91, 10), start.state["held"].numpy()
    after = block.rows[:, :910].reshape(8, 91, 10)
    assert torch.equal(block.rows[1:], whole.rows[1:])
    # On a ring all weights are a third; node 0 hears node 7 alone.
    both, only = held[0] & held[7], held[0] & ~held[7]
    torch.testing.assert_close(after[0, both], (x[0, both] + x[7, both]) / 2)
    assert torch.equal(after[0, only], x[0, only])


def test_means_over_holders_are_the_same_in_one_block_and_apart(
    make_job: Callable[..., Job], host: Callable[..., Any], host_apart: Callable[..., Any]
) -> None:
    def job() -> Job:
        made = make_job({"rounds": 3})
        made.algorithm = Holders()
        return made

    block, _ = host(job())
    rows, state, _ = host_apart(job, 3)
    assert torch.equal(rows, block.rows)
    assert torch.equal(state["held"], block.state["held"])
    assert block.state["held"].float().mean() > 0.95  # 0.4 at first
    # In a dense mean: everybody's rows and who holds what.
    start = job().block(np.arange(8))
    x, held = start.rows.double().numpy(), start.state["held"].numpy().copy()
    for t in range(3):
        w = start.mixing(start.graph(t), "metropolis_hastings").dense()
        mask = np.repeat(held, 10, axis=1).astype(float)
        reached = (w > 0).astype(float) @ mask > 0
        mean = (w @ (mask * x)) / np.where(reached, w @ mask, 1)
        mine = mask > 0 if not t else reached
        x, held = np.where(mine, mean, x), held if not t else reached[:, ::10]
    np.testing.assert_allclose(block.rows.numpy(), x, rtol=1e-4, atol=1e-5)
    assert np.array_equal(block.state["held"].numpy(), held)
