"""Products of polynomials are convolutions: layouts against loops, and against each other."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hansa.base.errors import ConfigError
from hansa.infer.private.integer_net import accumulate
from hansa.infer.private.linear.encrypted import ChannelLayers
from hansa.infer.private.linear.packing import pack, positions, unpack
from hansa.infer.private.linear.planning import Prices, layout
from hansa.infer.private.linear.weights import weight_polynomials
from hansa.infer.private.program import LOGITS, Block, Program, Term
from hansa.infer.private.rlwe.profiles import PROFILES

from . import made_programs
from .made_programs import Maker


def negacyclic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x·y modulo X^n + 1 of integers, by a transform in floating point that is exact here."""
    n = len(x)
    twist = np.exp(1j * np.pi * np.arange(n) / n)
    return np.rint((np.fft.ifft(np.fft.fft(x * twist) * np.fft.fft(y * twist)) / twist).real)


def loops(block: Block, values: dict[str, np.ndarray]) -> np.ndarray:
    """The block's accumulators [n, C, H, W] by definition."""
    batch = len(next(iter(values.values())))
    out = np.zeros((batch, *block.shape), np.int64) + block.bias[:, None, None]
    for term in block.terms:
        x, w = values[term.value], term.weight
        outs_each, ins_each = len(w) // term.groups, w.shape[1]
        for o, y, z in product(*map(range, block.shape)):
            for c, i, j in product(*map(range, w.shape[1:])):
                row = y * term.stride[0] - term.padding[0] + i * term.dilation[0]
                column = z * term.stride[1] - term.padding[2] + j * term.dilation[1]
                if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                    read = o // outs_each * ins_each + c
                    out[:, o, y, z] += w[o, c, i, j] * x[:, read, row, column]
    return out


def on_polynomials(program: Program, n: int, seed: int, batch: int = 2) -> int:
    """Blocks that differ from the reference when they are products of polynomials."""
    draw = np.random.default_rng(seed)
    made = layout(program, n, Prices(12 * n, 4 * n))
    values = {
        name: draw.integers(value.low, value.high + 1, (batch, *value.shape))
        for name, value in program.values.items()
    }
    wrong = 0
    for block in [block for one in program.rounds for block in one.blocks]:
        landing = made.landings[block.name]
        sums = np.zeros((batch, landing.rows.tiles, landing.columns.tiles, landing.groups, n))
        for at, term in enumerate(block.terms):
            placement = made.placements[made.sources[block.name, at]]
            shape = program.values[term.value].shape
            weights = weight_polynomials(block, at, placement, shape, landing, n)
            tiles = (placement.rows.tiles, placement.columns.tiles, placement.groups)
            held = pack(placement, n, values[term.value]).reshape(batch, *tiles, n)
            for where in np.ndindex(sums.shape[:4]):
                for group in range(placement.groups):
                    if weights[where[3], group].any():
                        one = held[(*where[:3], group)]
                        sums[where] += negacyclic(one, weights[where[3], group])
        at_all = np.tile(positions(landing), (batch, 1))
        flat = sums.reshape(-1, n).astype(np.int64)
        found = np.take_along_axis(flat, np.maximum(at_all, 0), 1)
        got = unpack(landing, found) + block.bias[:, None, None]
        wrong += not np.array_equal(got, accumulate(block, values))
    return wrong


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), n=st.sampled_from([64, 256, 1024]))
def test_a_random_layer_is_a_product_of_polynomials(seed: int, n: int) -> None:
    program = made_programs.one_layer(np.random.default_rng(seed))
    try:
        layout(program, n, Prices(12 * n, 4 * n))
    except ConfigError:  # 64 coefficients do not hold some kernels
        assume(False)
    assert on_polynomials(program, n, seed) == 0


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_the_integer_reference_is_the_definition(seed: int) -> None:
    program = made_programs.one_layer(np.random.default_rng(seed))
    value, block = program.input, program.rounds[0].blocks[0]
    numbers = np.random.default_rng(seed).integers(-100, 101, (1, *value.shape))
    np.testing.assert_array_equal(
        accumulate(block, {"input": numbers}), loops(block, {"input": numbers})
    )


@pytest.mark.parametrize("blocks", [1])
def test_a_residual_network_lands_where_its_terms_are_added(blocks: int) -> None:
    assert on_polynomials(made_programs.resnet(blocks, side=16, width=4), 1024, 0, 1) == 0


def test_an_image_larger_than_a_polynomial_is_cut_into_tiles() -> None:
    maker = Maker((2, 40, 30))
    maker.then("one", [maker.conv("input", 3, 3, padding=(1, 1, 1, 1))])
    maker.then(LOGITS, [maker.conv("one", 2, (5, 3), stride=(2, 1))])
    program = maker.program()
    made = layout(program, 256, Prices(3000, 1000))
    assert made.placements[0].tiles > 1
    assert on_polynomials(program, 256, 1) == 0


def test_a_value_read_by_two_strides_is_cut_into_phases_or_placed_twice() -> None:
    maker = Maker((3, 12, 12))
    one = maker.conv("input", 4, 3, padding=(1, 1, 1, 1))
    maker.then("same", [one])
    short = maker.conv("input", 5, 1, stride=(2, 2))
    maker.then("half", [maker.conv("same", 5, 3, padding=(1, 1, 1, 1), stride=(2, 2)), short])
    # the input again, in one block with strides that contradict what the others need
    thin = maker.conv("input", 6, 2, stride=(2, 2))
    maker.then(LOGITS, [maker.conv("half", 6, 1), thin])
    program = maker.program()
    assert on_polynomials(program, 1024, 2) == 0


def test_a_matrix_on_an_image_takes_it_as_a_vector() -> None:
    made = layout(made_programs.lenet(), 4096, Prices(46080, 16384))
    flat = next(one for one in made.placements if one.value == "two")
    assert len(flat.phases) == 25
    assert flat.plane == 1


def test_uploads_and_replies_of_resnet20_are_those_of_the_specification() -> None:
    made = layout(made_programs.resnet(3), 4096, Prices(46080, 16384))
    up = sum(one.polynomials for one in made.placements) * 46080
    down = sum(one.polynomials for one in made.landings.values()) * 16384
    assert up <= 5.7e6
    assert down <= 5.7e6


def test_a_kernel_that_no_polynomial_holds_is_refused_by_name() -> None:
    maker = Maker((1, 90, 90))
    maker.then(LOGITS, [maker.conv("input", 1, 80)])
    with pytest.raises(ConfigError, match="block0"):
        layout(maker.program(), 4096, Prices(1, 1))


def test_the_norm_counts_all_channels_that_share_a_polynomial() -> None:
    program = made_programs.mlp((20, 6))
    layers = ChannelLayers(program, PROFILES["n2048"])
    block = program.rounds[0].blocks[0]
    _, made = layers.polynomials(block, {}, None)
    assert layers.norm(block) >= np.abs(made).sum((1, 2)).max()


def _only(program_shape: tuple[int, int, int], weight: list, **settings: object) -> Program:
    maker = Maker(program_shape, low=0)
    term = Term("input", np.array(weight, np.int64)[None, None], **settings)  # type: ignore[arg-type]
    maker.then(LOGITS, [term])
    block = maker.rounds[0].blocks[0]
    block.bias[:] = 0
    return maker.program()


REPORTS = {
    "TenSEAL#353: rows and columns of a kernel": (
        [[1, 2, 3], [4, 5, 6], [7, 8, 9]], [[1, 2]], {}, [[5, 8], [14, 17], [23, 26]]),
    "heir#2422: 3x3 input, 2x2 kernel": (
        [[1, 2, 3], [4, 5, 6], [7, 8, 9]], [[1, 0], [0, -1]], {}, [[-4, -4], [-4, -4]]),
    "a strided convolution, its kernel rotated by half a turn": (
        [[2, 1, 2], [5, 0, 1], [1, 7, 3]], [[5, 10, 5], [1, 4, 3], [4, 7, 5]],
        {"padding": (1, 1, 1, 1), "stride": (2, 2)}, [[46, 16], [75, 29]]),
    "OpenCheetah#26: the last row and column": (
        [[0, 0, 0], [0, 0, 0], [0, 0, 9]], [[1]], {}, [[0, 0, 0], [0, 0, 0], [0, 0, 9]]),
}  # fmt: skip


@pytest.mark.parametrize("name", REPORTS)
def test_public_reports_of_wrong_convolutions(name: str) -> None:
    image, weight, settings_of, wanted = REPORTS[name]
    program = _only((1, 3, 3), weight, **settings_of)
    numbers = {"input": np.array(image)[None, None]}
    block = program.rounds[0].blocks[0]
    np.testing.assert_array_equal(accumulate(block, numbers)[0, 0], wanted)
    np.testing.assert_array_equal(accumulate(block, numbers), loops(block, numbers))
    assert on_polynomials(program, 64, 0) == 0
