"""The mixing kernel against dense float64 products, and its bits."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.engine.exchange import mixing
from hansa.engine.exchange.mixing import mix_rows_
from hansa.topology import Graph, metropolis_hastings

SIZES = st.one_of(st.integers(0, 9), st.sampled_from([127, 128, 129, 1023, 1025, 3001]))


def sums(random: np.random.Generator, n: int, table: int) -> tuple[np.ndarray, ...]:
    """Random weighted sums, each of one term or more: (indptr, index, weights)."""
    lengths = random.integers(1, min(table, 9) + 1, n)
    lists = [np.sort(random.choice(table, k, replace=False)) for k in lengths]
    index = np.concatenate([*lists, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return indptr, index, random.random(len(index))


def dense(table: int, indptr: np.ndarray, index: np.ndarray, weights: np.ndarray) -> np.ndarray:
    matrix = np.zeros((len(indptr) - 1, table))
    for i in range(len(matrix)):
        span = slice(indptr[i], indptr[i + 1])
        matrix[i, index[span]] = weights[span]
    return matrix


@settings(max_examples=60)
@given(
    n=st.integers(1, 20),
    m=st.integers(0, 6),
    size=SIZES,
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_sums_are_those_of_a_dense_product(
    n: int, m: int, size: int, dtype: torch.dtype, seed: int
) -> None:
    random = np.random.default_rng(seed)
    own = torch.from_numpy(random.standard_normal((n, size))).to(dtype)
    received = torch.from_numpy(random.standard_normal((m, size))).to(dtype)
    indptr, index, weights = sums(random, n, n + m)
    table = torch.cat([own, received]).double().numpy()
    expected = dense(n + m, indptr, index, weights) @ table
    outcomes = []
    for threads, plain in ((1, 0), (2, 0), (3, 0), (1, 1 << 60)):  # compiled, and not
        mixed = own.clone()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mixing, "_PLAIN_TERMS", plain)
            mix_rows_(mixed, received, indptr, index, weights, threads)
        outcomes.append(mixed)
    tolerance = 5e-6 if dtype == torch.float32 else 1e-13
    np.testing.assert_allclose(outcomes[0].numpy(), expected, rtol=tolerance, atol=tolerance)
    assert all(torch.equal(outcomes[0], other) for other in outcomes[1:])


def test_threads_do_not_change_a_bit_of_a_wide_block() -> None:
    random = np.random.default_rng(0)
    rows = torch.from_numpy(random.standard_normal((24, 7001)).astype(np.float32))
    indptr, index, weights = sums(random, 24, 24)
    outcomes = []
    for threads in (1, 2, 3, 5):
        mixed = rows.clone()
        mix_rows_(mixed, rows[:0], indptr, index, weights, threads)
        outcomes.append(mixed)
    assert all(torch.equal(outcomes[0], other) for other in outcomes[1:])


@pytest.mark.parametrize("size", [1, 130, 2049])
@pytest.mark.parametrize("n", [2, 3, 8, 17])
def test_a_complete_average_has_the_bits_of_the_plain_kernel(n: int, size: int) -> None:
    """The short cut for one mean adds in the same order as n sums."""
    random = np.random.default_rng(n)
    rows = torch.from_numpy(random.standard_normal((n, size)).astype(np.float32))
    indptr, index = np.arange(n + 1) * n, np.tile(np.arange(n), n)
    weights = np.full(n * n, 1 / n)
    short = rows.clone()
    mix_rows_(short, rows[:0], indptr, index, weights)
    assert torch.equal(short, short[:1].expand_as(short))
    np.testing.assert_allclose(short[0].numpy(), rows.double().mean(0).numpy(), atol=1e-6)
    # An unused foreign row keeps the short cut away.
    plain = rows.clone()
    mix_rows_(plain, torch.full((1, size), torch.nan), indptr, index, weights)
    assert torch.equal(plain, short)


def test_equal_counts_of_unequal_weights_are_no_average() -> None:
    rows = torch.tensor([[1.0], [3.0]])
    mix_rows_(
        rows,
        rows[:0],
        np.array([0, 2, 4]),
        np.array([0, 1, 0, 1]),
        np.array([0.75, 0.25, 0.25, 0.75]),
    )
    assert rows[:, 0].tolist() == [1.5, 2.5]


def test_equal_weights_of_other_rows_are_no_average() -> None:
    rows = torch.tensor([[1.0], [3.0]])
    mix_rows_(
        rows,
        rows[:0],
        np.array([0, 2, 4]),
        np.array([0, 0, 1, 1]),  # each row its own, twice
        np.array([0.5, 0.5, 0.5, 0.5]),
    )
    assert rows[:, 0].tolist() == [1.0, 3.0]


@settings(max_examples=25)
@given(n=st.integers(1, 13), size=st.integers(1, 300), seed=st.integers(0, 1000), data=st.data())
def test_a_split_of_the_block_does_not_change_a_bit(
    n: int, size: int, seed: int, data: st.DataObject
) -> None:
    random = np.random.default_rng(seed)
    rows = torch.from_numpy(random.standard_normal((n, size)).astype(np.float32))
    complete = data.draw(st.booleans())
    pairs = random.integers(0, n, (0 if n == 1 else 3 * n, 2))
    if complete:
        pairs = np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1).reshape(-1, 2)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    weights = metropolis_hastings(Graph.from_edges(n, pairs[:, 0], pairs[:, 1], symmetric=True))
    whole = rows.clone()
    mix_rows_(whole, rows[:0], weights.indptr, weights.indices, weights.values)
    for parts in (2, 4):
        for ids in np.array_split(np.arange(n), parts):
            mixed = mix_part(rows, ids, weights)
            assert torch.equal(mixed, whole[ids])


def mix_part(rows: torch.Tensor, ids: np.ndarray, weights: Any) -> torch.Tensor:
    """The block of ``ids`` mixed on its own, all other rows received."""
    others = np.setdiff1d(np.arange(len(rows)), ids)
    place = np.empty(len(rows), dtype=np.int64)
    place[ids], place[others] = np.arange(len(ids)), len(ids) + np.arange(len(others))
    indptr, columns, values = weights.rows(ids)
    own = rows[ids].clone()
    mix_rows_(own, rows[others], indptr, place[columns], values)
    return own


def test_models_that_diverged_mix_without_a_word(recwarn: pytest.WarningsRecorder) -> None:
    rows = torch.tensor([[np.inf, 3e38], [-np.inf, 3e38]])
    weights = np.array([0.5, 0.5, 0.9, 0.9], dtype=np.float32)
    mix_rows_(rows, rows[:0], np.array([0, 2, 4]), np.array([0, 1, 0, 1]), weights)
    assert rows[:, 0].isnan().all()
    assert not recwarn.list
