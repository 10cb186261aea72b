"""What the red team makes of numbers: impulses, elimination, least squares, scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.infer.private.integer_net import accumulate
from hansa.infer.private.program import Block, Term
from hansa.infer.private.redteam.impulses import plan_impulses, read_impulses
from hansa.infer.private.redteam.scoring import (
    chance,
    right_columns,
    right_in_order,
    right_up_to_order,
)
from hansa.infer.private.redteam.solving import middle, solve_modulo, solve_rounded

PRIME = (1 << 45) - 229  # 2^45 - 229 is prime


def answer(term: Term, bias: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The accumulator [O, H', W'] of one input."""
    block = Block("attacked", (term,), bias, term.output_shape(image.shape), 0, 0, 1.0)
    return accumulate(block, {"x": image[None]})[0]


def taken(term: Term, shape: tuple[int, int, int]) -> tuple[np.ndarray, int]:
    """Weights out of chosen inputs, and how many there were."""
    draw = np.random.default_rng(0)
    bias = draw.integers(-50, 50, len(term.weight))
    inputs = plan_impulses(term, shape)
    zero = answer(term, bias, np.zeros(shape, np.int64))
    replies = [answer(term, bias, one.image(shape)) - zero for one in inputs]
    return read_impulses(inputs, replies, term.weight.shape), len(inputs)


@pytest.mark.parametrize(("channels", "side", "queries"), [(16, 32, 1), (32, 16, 2), (64, 8, 16)])
def test_one_query_takes_a_convolution(channels: int, side: int, queries: int) -> None:
    weight = np.random.default_rng(1).integers(-127, 128, (channels, channels, 3, 3))
    term = Term("x", weight, padding=(1, 1, 1, 1))
    found, asked = taken(term, (channels, side, side))
    assert asked == queries
    assert (found == weight).all()


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 2),
    st.integers(1, 2), st.integers(0, 1), st.integers(6, 9), st.integers(6, 9),
)  # fmt: skip
def test_impulses_read_any_convolution(
    channels: int,
    high: int,
    wide: int,
    stride: int,
    dilation: int,
    pad: int,
    rows: int,
    columns: int,
) -> None:
    weight = np.random.default_rng(rows).integers(-9, 10, (3, channels, high, wide))
    term = Term("x", weight, (stride, 1), (pad, 0, pad, pad), (1, dilation))
    found, _ = taken(term, (channels, rows, columns))
    assert (found == weight).all()


def test_a_matrix_takes_as_many_inputs_as_it_has_columns() -> None:
    weight = np.random.default_rng(2).integers(-127, 128, (5, 12, 1, 1))
    found, asked = taken(Term("x", weight), (12, 1, 1))
    assert asked == 12
    assert (found == weight).all()


def test_elimination_finds_what_made_the_equations() -> None:
    draw = np.random.default_rng(3)
    matrix = draw.integers(0, PRIME, (60, 40))
    unknown = draw.integers(-127, 128, (40, 6))
    right = (matrix.astype(object) @ unknown.astype(object)) % PRIME
    solved = solve_modulo(matrix, right, PRIME)
    assert solved is not None
    assert (solved == unknown).all()


def test_elimination_says_where_equations_determine_nothing() -> None:
    matrix = np.ones((5, 2), np.int64)
    assert solve_modulo(matrix, matrix[:, :1], PRIME) is None


def test_least_squares_rounds_small_errors_away() -> None:
    draw = np.random.default_rng(4)
    matrix = np.rint(draw.normal(0, 3.2, (500, 30)))
    unknown = draw.integers(-127, 128, (30, 4))
    right = matrix @ unknown + draw.normal(0, 1, (500, 4))
    assert (solve_rounded(matrix, right) == unknown).all()


def test_the_middle_of_uniform_errors_beats_their_mean() -> None:
    draw = np.random.default_rng(5)
    readings = draw.uniform(-100, 100, (400, 200))
    assert np.abs(middle(readings)).mean() < np.abs(readings.mean(0)).mean() / 4


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_scores_know_orders(seed: int) -> None:
    draw = np.random.default_rng(seed)
    truth = draw.integers(-127, 128, (6, 3, 3, 3))
    shuffled = truth[draw.permutation(6)]
    assert right_up_to_order(shuffled, truth) == truth.size
    assert right_in_order(truth, truth) == truth.size
    columns = truth.reshape(6, -1)
    fresh = np.stack([draw.permutation(column) for column in columns.T], 1)
    assert right_columns(fresh, columns) == truth.size


def test_chance_is_what_places_alone_leave() -> None:
    draw = np.random.default_rng(6)
    wide = draw.integers(-127, 128, (16, 144))
    assert chance(right_in_order, wide, 0) < 0.02
    assert chance(right_in_order, draw.integers(0, 2, (16, 144)), 0) == pytest.approx(0.5, abs=0.1)
    assert chance(right_up_to_order, wide, 0) >= chance(right_in_order, wide, 0)
