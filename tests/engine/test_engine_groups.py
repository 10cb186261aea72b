"""Groups of adjacent numbers mix as their numbers one by one."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.codec import SparseRows
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
