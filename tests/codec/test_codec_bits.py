"""Index codes: round trips at the borders, and how long they are."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import WireError
from hansa.codec import Sparse, SparseRows
from hansa.codec.bits import (
    bitmap_decode,
    bitmap_encode,
    gamma_bits,
    gamma_decode,
    gamma_encode,
    rice_bits,
    rice_decode,
    rice_encode,
    rice_parameter,
)

LAST = (1 << 31) - 1
GAMMA = {0.05: 7.4, 0.10: 5.7, 0.15: 4.8, 0.20: 4.1, 0.25: 3.6, 0.30: 3.3, 0.40: 2.7}
"""Mean bits of an Elias gamma gap by share, spec 1.4."""


def drawn(share: float, size: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.sort(random.choice(size, round(share * size), replace=False))


def round_trips(positions: np.ndarray, size: int) -> None:
    code = gamma_encode(positions)
    assert len(code) == -(-gamma_bits(positions) // 8)
    assert gamma_decode(code, len(positions), size).tolist() == positions.tolist()
    parameter = rice_parameter(positions)
    code = rice_encode(positions, parameter)
    assert len(code) == -(-rice_bits(positions, parameter) // 8)
    assert rice_decode(code, len(positions), size, parameter).tolist() == positions.tolist()


@pytest.mark.parametrize(
    ("positions", "size"),
    [
        ([], 0),
        ([], 5),
        ([0], 1),
        ([0], LAST),
        ([LAST - 1], LAST),
        ([1 << 30], LAST),
        ([0, LAST - 1], LAST),
        ([5, 6, 7, 8], 9),
        ([0, 1, 2], 3),
        ([LAST - 3, LAST - 2, LAST - 1], LAST),
        ([1 << k for k in range(31)], LAST),
    ],
    ids=str,
)
def test_borders(positions: list[int], size: int) -> None:
    found = np.array(positions, dtype=np.int64)
    round_trips(found, size)
    if size < 10:
        assert bitmap_decode(bitmap_encode(found, size), len(found), size).tolist() == positions


@given(st.sets(st.integers(0, LAST - 1)))
def test_any_positions(positions: set[int]) -> None:
    round_trips(np.array(sorted(positions), dtype=np.int64), LAST)


@given(st.binary(max_size=40), st.integers(0, 60), st.integers(0, 200), st.integers(0, 30))
def test_a_code_is_read_back_as_it_would_be_written(
    data: bytes, count: int, size: int, parameter: int
) -> None:
    """Whatever is accepted is what the encoder writes: one code for one list of positions."""
    for read, write in (
        (lambda: gamma_decode(data, count, size), gamma_encode),
        (lambda: rice_decode(data, count, size, parameter), lambda p: rice_encode(p, parameter)),
        (lambda: bitmap_decode(data, count, size), lambda p: bitmap_encode(p, size)),
    ):
        try:
            found = read()
        except WireError:
            continue
        assert len(found) == count
        assert write(found) == data


@pytest.mark.parametrize("share", GAMMA)
def test_elias_gamma_takes_the_published_bits(share: float) -> None:
    positions = drawn(share, 400_000)
    assert gamma_bits(positions) / len(positions) == pytest.approx(GAMMA[share], rel=0.02)


@pytest.mark.parametrize("share", [0.001, 0.01, *GAMMA, 0.6, 0.9])
@pytest.mark.parametrize("size", [50, 2000, 89_843])
def test_rice_and_shortest_are_no_longer_than_gamma(share: float, size: int) -> None:
    values = torch.zeros(1, size)
    for seed in range(5):
        messages = SparseRows.of(values, [drawn(share, size, seed)])
        gamma = Sparse(index="gamma").size(messages)[0]
        assert Sparse(index="rice").size(messages)[0] <= gamma + 1
        each = [Sparse(index=i).size(messages)[0] for i in ("gamma", "rice", "bitmap", "plain")]  # type: ignore[arg-type]
        assert Sparse().size(messages)[0] == min(each)


def test_the_shortest_code_is_chosen_message_by_message() -> None:
    rows = torch.zeros(3, 1000)
    messages = SparseRows.of(rows, [np.arange(1000), np.arange(0, 1000, 2), np.arange(3)])
    payloads = Sparse().encode(messages)
    assert [memoryview(p)[0] for p in payloads] == [0, 2, 1]
    assert len(payloads[0]) == 12 + 4000


def test_a_jwins_message_is_365_percent_of_a_whole_one() -> None:
    """P' of sym2 at P = 89,834, Elias gamma and float32: the published saving of 64 %."""
    random, size, codec = np.random.default_rng(5), 89_843, Sparse(index="gamma")
    shares = np.array([0.10, 0.15, 0.20, 0.25, 0.30, 0.40, 1.00])
    row, few = torch.zeros(1, size), 6
    of_share = []
    for share in shares:
        positions = [drawn(share, size, seed) for seed in range(few)]
        of_share.append(codec.size(SparseRows.of(row.expand(few, -1), positions)))
    alphas, which = random.integers(len(shares), size=1000), random.integers(few, size=1000)
    mean = np.array(of_share)[alphas, which].mean() / 359_336
    assert mean == pytest.approx(0.365, abs=0.01)


def test_a_hundred_and_sixty_nine_thousand_positions() -> None:
    positions = drawn(0.1, 1_690_046)
    assert np.array_equal(
        gamma_decode(gamma_encode(positions), len(positions), 1_690_046), positions
    )
