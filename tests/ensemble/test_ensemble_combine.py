"""Weights and combiners against plain NumPy (checks B-4 and B-5 of CPFL)."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hansa.ensemble import Weighted, average, label_weights, uniform_weights, weighted_logits


def scores(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


@given(
    counts=arrays(
        np.int64, array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.integers(0, 10**9)
    )
)
def test_columns_sum_to_one(counts: np.ndarray) -> None:
    weights = label_weights(counts)
    assert weights.shape == counts.shape
    assert weights.dtype == torch.float64
    assert torch.allclose(weights.sum(0), torch.ones(1, dtype=torch.float64), rtol=0, atol=1e-14)
    for i, row in enumerate(counts):
        for c, count in enumerate(row):
            total = int(counts[:, c].sum())
            wanted = int(count) / total if total else 1 / len(counts)
            assert weights[i, c].item() == pytest.approx(wanted, abs=1e-15)


def test_who_has_a_class_alone_decides_it_and_nobodys_class_is_shared() -> None:
    weights = label_weights(np.array([[7, 0, 2], [0, 0, 6], [0, 0, 0], [0, 0, 0]]))
    assert weights[:, 0].tolist() == [1, 0, 0, 0]
    assert weights[:, 1].tolist() == [0.25] * 4
    assert weights[:, 2].tolist() == [0.25, 0.75, 0, 0]


@pytest.mark.parametrize(
    "counts", [[[1, -1]], [[np.nan, 1]], [[np.inf, 1]], [1, 2], np.zeros((0, 3))]
)
def test_what_are_no_counts(counts: list) -> None:
    with pytest.raises(ValueError, match="counts"):
        label_weights(np.asarray(counts))


@given(seed=st.integers(0, 999), n=st.integers(1, 9), m=st.integers(0, 9), c=st.integers(1, 9))
def test_targets_are_numpys_einsum(seed: int, n: int, m: int, c: int) -> None:
    logits = scores(seed, n, m, c)
    weights = label_weights(np.random.default_rng(seed).integers(0, 5, (n, c)))
    wanted = np.einsum("imc,ic->mc", logits.numpy().astype(np.float64), weights.numpy())
    for found in (weighted_logits(logits, weights), Weighted(weights)(logits)):
        assert found.dtype == logits.dtype
        assert np.allclose(found.numpy(), wanted, rtol=0, atol=1e-6)
    even = weighted_logits(logits, uniform_weights(n, c))
    assert torch.allclose(even, average(logits), atol=1e-6)


@given(seed=st.integers(0, 999), n=st.integers(1, 40))
def test_identical_teachers_are_one_teacher_whatever_the_weights(seed: int, n: int) -> None:
    one = scores(seed, 1, 6, 4)
    weights = label_weights(np.random.default_rng(seed).integers(0, 5, (n, 4)))
    assert torch.allclose(weighted_logits(one.expand(n, 6, 4), weights), one[0], atol=1e-6)


def test_shapes_must_fit() -> None:
    with pytest.raises(ValueError, match="weights"):
        weighted_logits(scores(0, 3, 5, 4), uniform_weights(3, 5))
