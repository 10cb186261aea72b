"""Certificates: brute force over all that liars can send gives the bounds exactly."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hansa.ensemble import (
    Aggregator,
    GeometricMedian,
    Krum,
    MajorityVote,
    Mean,
    Median,
    NearestNeighborMixing,
    TrimmedMean,
)
from hansa.ensemble.certificates import (
    bounds,
    certified,
    decided,
    largest_f,
    margin,
    theorem_1,
)

EXACT: list[Aggregator] = [Mean(), MajorityVote()]
BOUNDED: list[Aggregator] = [*EXACT, Median(), TrimmedMean(f=1), TrimmedMean(f=2)]


@st.composite
def answers(draw: Any) -> tuple[Tensor, int, int]:
    """Rows [r, K] of probabilities, f, and how many are missing: at most 7 members, 4 classes."""
    n, classes = draw(st.integers(1, 7)), draw(st.integers(2, 4))
    missing = draw(st.integers(0, n - 1))
    f = draw(st.integers(0, min(2, n - missing)))
    random = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    rows = random.dirichlet(np.full(classes, draw(st.sampled_from([0.2, 1.0]))), n - missing)
    if draw(st.booleans()):
        rows = random.multinomial(4, rows) / 4  # many ties
    return torch.from_numpy(rows), f, min(missing, 3)


def all_answers(aggregator: Aggregator, rows: Tensor, f: int, missing: int) -> Tensor:
    """What comes out under every choice of f liars, who and the missing say one class each."""
    classes = torch.eye(rows.shape[1], dtype=rows.dtype)
    sets = []
    for liars in itertools.combinations(range(len(rows)), f):
        for said in itertools.product(range(len(classes)), repeat=f + missing):
            forged = torch.cat([rows, classes[list(said[f:])]])
            forged[list(liars)] = classes[list(said[:f])]
            sets.append(forged)
    return aggregator.many(torch.stack(sets))


@pytest.mark.parametrize("aggregator", BOUNDED, ids=lambda a: f"{a.name}{getattr(a, 'f', '')}")
@given(answers())
def test_brute_force_gives_exactly_the_bounds(
    aggregator: Aggregator, case: tuple[Tensor, int, int]
) -> None:
    rows, f, missing = case
    if len(rows) + missing < aggregator.least:
        return
    outcomes = all_answers(aggregator, rows, f, missing)
    ends = bounds(aggregator, rows[None], f, missing)
    assert ends is not None
    torch.testing.assert_close(ends[0][0], outcomes.amin(0))
    torch.testing.assert_close(ends[1][0], outcomes.amax(0))
    answered = set(outcomes.argmax(1).tolist())
    one = int(decided(aggregator, rows[None], f, missing))
    if one >= 0:
        assert answered == {one}
    elif aggregator in EXACT:
        # The mean's rule is strict: classes that may come out equal are not certified.
        top = outcomes.topk(2, 1).values
        assert len(answered) > 1 or bool((top[:, 0] - top[:, 1] < 1e-12).any())


@pytest.mark.parametrize("aggregator", BOUNDED, ids=lambda a: f"{a.name}{getattr(a, 'f', '')}")
@settings(max_examples=25)
@given(st.integers(0, 1 << 32), st.sampled_from([5, 9, 17]), st.integers(0, 3))
def test_the_largest_f_is_the_last_that_is_certified(
    aggregator: Aggregator, seed: int, n: int, missing: int
) -> None:
    random = np.random.default_rng(seed)
    sharp = random.dirichlet(np.full(4, 0.3), (20, 1))
    rows = torch.from_numpy(0.8 * sharp + 0.2 * random.dirichlet(np.full(4, 0.5), (20, n)))
    most = largest_f(aggregator, rows, missing)
    each = [certified(aggregator, rows, f, missing) for f in range((n + missing - 1) // 2 + 1)]
    assert torch.equal(most, torch.stack(each).sum(0) - 1)  # what falls never rises again
    assert (most <= (n + missing - 1) // 2).all()
    if not missing:
        sure = most >= 0
        answered = aggregator.many(rows).argmax(1)
        assert torch.equal(decided(aggregator, rows, 0)[sure], answered[sure])


@pytest.mark.parametrize(("n", "f", "constant"), [(17, 4, 5.598), (10, 3, 8.018),
                                                  (25, 6, 5.739), (5, 1, 4.651)])  # fmt: skip
def test_theorem_1_has_the_published_constants(n: int, f: int, constant: float) -> None:
    assert theorem_1(n, f) == pytest.approx(constant, abs=5e-4)
    with pytest.raises(ValueError, match="half or more"):
        theorem_1(2 * f, f)


@given(st.integers(0, 1 << 32), st.sampled_from([(17, 4), (9, 1), (5, 1)]))
def test_what_theorem_1_certifies_the_order_statistics_certify(
    seed: int, size: tuple[int, int]
) -> None:
    n, f = size
    random = np.random.default_rng(seed)
    spread = random.uniform(0, 0.3, (200, 1, 1))
    sharp = random.dirichlet(np.full(4, 0.2), (200, 1))
    rows = (1 - spread) * sharp + spread * random.dirichlet(np.full(4, 0.5), (200, n))
    honest = torch.from_numpy(rows)
    deviation = honest.var(1, correction=0).amax(1).sqrt()
    published = margin(honest.mean(1)) > theorem_1(n, f) * deviation
    assert published.any()  # members that agree enough
    ours = decided(TrimmedMean(f=f), honest, f)
    assert torch.equal(ours[published], honest.mean(1).argmax(1)[published])


def test_where_no_bound_is_known_nothing_is_certified() -> None:
    rows = torch.eye(3).double()[torch.zeros(2, 9, dtype=torch.long)]
    for aggregator in (GeometricMedian(), Krum(f=1), NearestNeighborMixing(f=1)):
        assert bounds(aggregator, rows, 1) is None
        assert not certified(aggregator, rows, 0).any()
        assert largest_f(aggregator, rows).tolist() == [-1, -1]


def test_a_margin_is_infinite_where_all_are_equal() -> None:
    scores = torch.tensor([[0.5, 0.2, 0.3], [0.4, 0.4, 0.2], [0.25, 0.25, 0.25]])
    assert margin(scores).tolist() == pytest.approx([0.2, 0.0, float("inf")])


def test_what_is_wrong_is_named() -> None:
    rows = torch.full((1, 3, 2), 0.5)
    with pytest.raises(ValueError, match="f is 4: of 3 rows"):
        bounds(Mean(), rows, 4)
    with pytest.raises(ValueError, match="trimmed_mean needs 5 rows, not 4"):
        certified(TrimmedMean(f=2), rows, 1, missing=1)
