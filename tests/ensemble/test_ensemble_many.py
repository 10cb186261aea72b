"""Aggregators of many sets at once: each as alone, their constants, gradients and bad rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hansa.base.errors import ConfigError
from hansa.ensemble import (
    Aggregator,
    Bucketing,
    CenteredClipping,
    GeometricMedian,
    Krum,
    MajorityVote,
    Mean,
    Median,
    ModelAggregator,
    MultiKrum,
    NearestNeighborMixing,
    TrimmedMean,
)
from hansa.ensemble.aggregators.lowest_points import TOLERANCE
from hansa.ensemble.aggregators.sorting import mean_of_ranks, network

ROBUST: list[Aggregator] = [
    Median(),
    TrimmedMean(f=2),
    GeometricMedian(),
    Krum(f=2),
    MultiKrum(f=2),
    NearestNeighborMixing(f=2, then=TrimmedMean(f=2)),
    NearestNeighborMixing(f=2, then=GeometricMedian()),
    Bucketing(size=2, then=TrimmedMean(f=2)),
    CenteredClipping(radius=0.5, steps=2),
]
EVERY = pytest.mark.parametrize(
    "aggregator", [Mean(), MajorityVote(), *ROBUST], ids=lambda a: a.name
)
COUNT = torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])


@EVERY
@settings(max_examples=25)
@given(st.integers(0, 1 << 32), st.integers(0, 6), st.sampled_from([2, 3, 12]), st.booleans())
def test_many_are_as_each_alone(
    aggregator: Aggregator, seed: int, m: int, size: int, weighted: bool
) -> None:
    random = np.random.default_rng(seed)
    rows = torch.from_numpy(random.standard_normal((m, 11, size)))
    weights = random.integers(1, 4, 11) / 8 if weighted else None
    every = aggregator.many(rows, weights)
    assert every.shape == (m, size)
    for each, result in zip(rows, every, strict=True):
        alone = aggregator.of(each, np.ones(11) if weights is None else weights)
        torch.testing.assert_close(result, alone, rtol=1e-6, atol=1e-6)


def test_ones_own_aggregator_does_many_too() -> None:
    class Largest(Median):
        def middle(self, values: Tensor, weights: Tensor) -> Tensor:
            return values[:, -1]

        def ranks(self, n: int) -> tuple[int, int]:
            return n - 1, n

    class Slow(Krum):
        many = Aggregator.many

        def combine(self, rows: Tensor, weights: np.ndarray) -> Tensor:
            return Krum.many(self, rows[None], weights)[0]

    rows = torch.randn(4, 7, 3)
    assert torch.equal(Largest().many(rows), rows.amax(1))
    assert torch.equal(Slow(f=2).many(rows), Krum(f=2).many(rows))


def test_published_examples() -> None:
    """The three rows that ByzFL documents."""
    for aggregator in (Mean(), Median(), TrimmedMean(f=1), GeometricMedian(), CenteredClipping()):
        torch.testing.assert_close(aggregator.many(COUNT[None])[0], COUNT[1])
    mixed = NearestNeighborMixing(f=1).mixed(COUNT[None])[0]
    wanted = torch.tensor([[2.5, 3.5, 4.5], [2.5, 3.5, 4.5], [5.5, 6.5, 7.5]])
    torch.testing.assert_close(mixed, wanted)
    assert torch.equal(TrimmedMean(f=0).many(COUNT[None])[0], COUNT[1])


@given(st.integers(1, 40), st.integers(0, 1 << 32), st.booleans())
def test_a_network_sorts_what_it_is_asked_for(n: int, seed: int, ties: bool) -> None:
    random = np.random.default_rng(seed)
    low = int(random.integers(0, n))
    high = int(random.integers(low + 1, n + 1))
    rows = random.integers(0, 3, (5, n, 4)) if ties else random.standard_normal((5, n, 4))
    wanted = np.sort(rows.astype(float), axis=1)[:, low:high].mean(1)
    np.testing.assert_allclose(mean_of_ranks(rows.astype(float), low, high), wanted, atol=1e-12)
    assert len(network(n, low, high)) <= len(network(n, 0, n))


def first_order(rows: Tensor, weights: np.ndarray, y: Tensor) -> float:
    """How far the weighted unit vectors to the rows are from summing to 0, less what rows at the
    point itself can hold; 0 at the median."""
    ways = rows.double() - y.double()
    far = ways.norm(dim=1)
    mass = torch.from_numpy(weights / weights.sum())
    here = far <= 1e-9
    units = ways / far.masked_fill(here, 1).unsqueeze(1)
    force = (units * mass.unsqueeze(1))[~here].sum(0).norm() - mass[here].sum()
    return float(force)


@given(
    st.integers(0, 1 << 32),
    st.integers(1, 13),
    st.integers(1, 30),
    st.sampled_from(["far", "grid", "simplex", "line", "doubled"]),
    st.booleans(),
)
def test_a_geometric_median_is_one(seed: int, n: int, size: int, form: str, weighted: bool) -> None:
    random = np.random.default_rng(seed)
    rows = random.standard_normal((n, size))
    if form == "far":
        rows[: (n - 1) // 2] *= 1e8
    elif form == "grid":
        rows = random.integers(0, 2, (n, size)).astype(float)
    elif form == "simplex":
        rows = random.dirichlet(np.full(size, 0.3), n)
    elif form == "line":
        rows = random.standard_normal((n, 1)) * rows[:1] + rows[-1:]
    elif form == "doubled":
        rows = rows[random.integers(0, n, n)]
    weights = random.integers(1, 4, n) / 3 if weighted else np.ones(n)
    given_rows = torch.from_numpy(rows)
    y = GeometricMedian().of(given_rows, weights)
    assert first_order(given_rows, weights, y) <= 1e-6
    assert TOLERANCE < 1e-6


@pytest.mark.parametrize(
    ("aggregator", "wanted"),
    [
        (TrimmedMean(f=4), 3.852),
        (Median(), 8.346),
        (GeometricMedian(), 8.346),
        (Krum(f=4), 8.667),
        (NearestNeighborMixing(f=4, then=TrimmedMean(f=4)), 11.943),
        (TrimmedMean(f=3), None),
        (Mean(), None),
        (Bucketing(), None),
        (MultiKrum(f=4), None),
        (CenteredClipping(), None),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_kappa_at_17_with_4(aggregator: Aggregator, wanted: float | None) -> None:
    assert aggregator.kappa(17, 4) == (None if wanted is None else pytest.approx(wanted, abs=1e-3))
    assert aggregator.kappa(8, 4) is None
    assert Mean().kappa(5, 0) == 0


BOUNDED = [
    Median(),
    GeometricMedian(),
    TrimmedMean(f=3),
    Krum(f=3),
    NearestNeighborMixing(f=3, then=TrimmedMean(f=3)),
    NearestNeighborMixing(f=3, then=Median()),
]


@pytest.mark.parametrize("aggregator", BOUNDED, ids=["", "", "", "", "trimmed", "median"])
def test_no_draw_breaks_kappa(aggregator: Aggregator) -> None:
    """10,000 draws of 10 rows, 3 of them bad in one of five ways."""
    random, n, f = np.random.default_rng(3), 10, 3
    rows = random.standard_normal((10_000, n, 3)) * random.lognormal(0, 1, (10_000, n, 1))
    honest = rows[:, f:]
    centre, spread = honest.mean(1, keepdims=True), honest.std(1, keepdims=True)
    ways = random.integers(0, 5, 10_000)
    rows[ways == 1, :f] *= 30
    rows[ways == 2, :f] = (centre + random.uniform(0, 3) * spread)[ways == 2]
    rows[ways == 3, :f] = honest.max(1, keepdims=True)[ways == 3]
    rows[ways == 4, :f] = honest[ways == 4, :1]
    result = aggregator.many(torch.from_numpy(rows)).numpy()
    error = ((result - centre[:, 0]) ** 2).sum(1)
    variance = ((honest - centre) ** 2).sum(2).mean(1)
    kappa = aggregator.kappa(n, f)
    assert kappa is not None
    assert (error <= kappa * variance).all()


@pytest.mark.parametrize("aggregator", ROBUST, ids=lambda a: a.name)
@pytest.mark.parametrize("bad", [1e30, float("inf"), float("nan")])
@pytest.mark.parametrize("size", [4, 40])
def test_few_rows_of_anything_do_little(aggregator: Aggregator, bad: float, size: int) -> None:
    rows = torch.randn(5, 12, size, generator=torch.Generator().manual_seed(1))
    few = rows.clone()
    few[:, :2] = bad
    moved = (aggregator.many(few) - rows[:, 2:].mean(1)).norm(dim=1)
    assert (moved < 2.5 * size**0.5).all()


@EVERY
def test_gradients_are_those_of_differences(aggregator: Aggregator) -> None:
    rows = torch.from_numpy(np.random.default_rng(5).standard_normal((3, 9, 4)))
    if isinstance(aggregator, MajorityVote):
        return  # a vote has none
    if isinstance(aggregator, Bucketing):  # the least change of a row deals the buckets anew
        aggregator = Bucketing(size=2, then=Mean())
    leaf = rows.clone().requires_grad_()
    assert torch.autograd.gradcheck(aggregator.many, (leaf,), eps=1e-6, atol=1e-5)
    torch.testing.assert_close(aggregator.many(leaf).detach(), aggregator.many(rows))


def test_the_gradient_of_a_median_that_is_a_row_is_that_row() -> None:
    rows = torch.tensor([[[0.0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]], requires_grad=True)
    GeometricMedian().many(rows).sum().backward()
    assert rows.grad is not None
    assert rows.grad[0].tolist() == [[1, 1], *[[0, 0]] * 4]


def test_votes_have_a_rule_for_ties() -> None:
    rows = torch.tensor([[[0.5, 0.5, 0.0], [0.1, 0.2, 0.7], [0.0, 0.9, 0.1], [0.9, 0.1, 0.0]]])
    shares = MajorityVote().many(rows)
    assert shares.tolist() == [[0.5, 0.25, 0.25]]
    assert MajorityVote().many(rows, np.array([1.0, 3, 1, 1]))[0].argmax() == 2
    one = torch.tensor([[[0.3], [-2.0], [0.0]]])
    torch.testing.assert_close(MajorityVote().many(one), torch.tensor([[-1 / 3]]))


def test_models_do_not_vote() -> None:
    from pydantic import TypeAdapter

    adapter: TypeAdapter[Aggregator] = TypeAdapter(ModelAggregator)
    for vote in (MajorityVote(), NearestNeighborMixing(then=MajorityVote())):
        with pytest.raises(ConfigError, match="a model's numbers cast none"):
            adapter.validate_python(vote)
    assert adapter.validate_python("krum") == Krum()


@pytest.mark.parametrize(
    ("aggregator", "least"),
    [
        (Krum(f=2), 5),
        (MultiKrum(f=2, keep=6), 8),
        (NearestNeighborMixing(f=1, then=TrimmedMean(f=3)), 7),
        (NearestNeighborMixing(f=3, then=TrimmedMean(f=1)), 7),
        (Bucketing(size=3, then=TrimmedMean(f=1)), 7),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_too_few_rows_are_refused(aggregator: Aggregator, least: int) -> None:
    assert aggregator.least == least
    assert aggregator.many(torch.randn(1, least, 2)).isfinite().all()
    with pytest.raises(ValueError, match=f"{aggregator.name} needs {least} rows, not {least - 1}"):
        aggregator.many(torch.randn(1, least - 1, 2))
