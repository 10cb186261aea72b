"""Weights whose sums stay within an accumulator, and networks that are trained for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hansa.base.errors import ConfigError
from hansa.infer.private.compiling.compiler import compile_network
from hansa.infer.private.compiling.held_sums import Part, held, norm_bound
from hansa.infer.private.compiling.program_file import check_program
from hansa.infer.private.compiling.quantize import Bits
from hansa.infer.private.integer_net import accumulate, read_rows

from .test_compiling_accuracy import digits, mlp, right, trained


@st.composite
def layers(draw: st.DrawFn) -> tuple[list[Part], torch.Tensor, int]:
    """Terms of one sum, its bias, and the bits that it may take."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    channels, parts = draw(st.integers(1, 4)), []
    for _ in range(draw(st.integers(1, 3))):
        inputs, spread = draw(st.integers(1, 30)), draw(st.sampled_from((1.0, 20.0, 100.0)))
        weights = spread * torch.randn(channels, inputs, 1, 1, generator=generator).double()
        low = draw(st.sampled_from((0, 0, -7, -64)))
        parts.append(Part(weights, low, draw(st.sampled_from((1, 15, 127))), False))
    bias = torch.randint(-40, 40, (channels,), generator=generator).double()
    return parts, bias, draw(st.integers(8, 20))


@settings(max_examples=200, deadline=None)
@given(layers())
def test_no_input_makes_a_sum_that_overflows(given_: tuple[list[Part], torch.Tensor, int]) -> None:
    parts, bias, bits = given_
    made = held(parts, bias, bits)
    assert made is not None
    most, least = bias.clone(), bias.clone()
    for part, whole in zip(parts, made, strict=True):
        flat = whole.flatten(1)
        assert torch.equal(flat, flat.round())
        most += (flat.clamp_min(0) * part.high - (-flat).clamp_min(0) * part.low).sum(1)
        least += (flat.clamp_min(0) * part.low - (-flat).clamp_min(0) * part.high).sum(1)
    assert float(most.max()) <= 2 ** (bits - 1) - 1
    assert float(least.min()) >= -(2 ** (bits - 1))


@settings(max_examples=100, deadline=None)
@given(layers())
def test_weights_that_fit_are_rounded_to_the_nearest(
    given_: tuple[list[Part], torch.Tensor, int],
) -> None:
    parts, bias, _ = given_
    made = held(parts, bias, 40)
    assert made is not None
    for part, whole in zip(parts, made, strict=True):
        assert torch.equal(whole, part.weights.round())


@settings(max_examples=100, deadline=None)
@given(layers(), st.integers(8, 20))
def test_holding_changes_no_sign_and_makes_no_weight_larger(
    given_: tuple[list[Part], torch.Tensor, int], bits: int
) -> None:
    parts, bias, _ = given_
    made = held(parts, bias, bits)
    assert made is not None
    for part, whole in zip(parts, made, strict=True):
        assert bool((whole * part.weights >= 0).all())
        assert bool((whole.abs() <= part.weights.abs().ceil()).all())


def test_centred_weights_reach_the_bound_of_a2q_plus() -> None:
    """2 (2^(P-1) - 1) / (2^N - 1): of both signs together, with as much of each."""
    weights = torch.tensor([[50.0, -50.0] * 40], dtype=torch.float64).reshape(1, 80, 1, 1)
    for bits, inputs in ((12, 4), (14, 7), (16, 7)):
        made = held([Part(weights, 0, (1 << inputs) - 1)], torch.zeros(1).double(), bits)
        assert made is not None
        norm = float(made[0].abs().sum())
        assert norm <= norm_bound(bits, inputs)
        # Rounding leaves less than one of each sign unused, unless all weights are equally cut.
        assert norm > norm_bound(bits, inputs) - 80


def test_the_projection_is_the_nearest_point() -> None:
    """Of all weights in the ball, by comparison with random ones in it (before rounding)."""
    generator = torch.Generator().manual_seed(0)
    weights = 4096 * torch.rand(1, 6, 1, 1, generator=generator).double()
    made = held([Part(weights, 0, 3)], torch.zeros(1).double(), 14)
    assert made is not None
    reach = (2**13 - 1) / 3
    off = float((made[0] - weights).norm())
    for _ in range(500):
        other = torch.rand(6, generator=generator).double()
        other *= reach / other.sum()
        assert float((other - weights.flatten()).norm()) >= off - 6


def test_what_is_fixed_stays_and_is_refused_where_it_is_too_much() -> None:
    fixed = Part(torch.full((2, 1, 1, 1), 60.0).double(), 0, 127, True)
    free = Part(torch.full((2, 5, 1, 1), 9.7).double(), 0, 127)
    zeros = torch.zeros(2).double()
    made = held([fixed, free], zeros, 14)
    assert made is not None
    assert torch.equal(made[0], fixed.weights)
    assert float(made[1].sum()) < 97
    assert held([fixed, free], zeros, 13) is None
    assert held([free], zeros + 5000, 13) is None


@pytest.mark.parametrize(("bits", "accumulator"), [((8, 5), 12)])
def test_training_wins_back_what_short_accumulators_cost(
    bits: tuple[int, int], accumulator: int
) -> None:
    torch.manual_seed(0)
    x, y = digits()
    network = trained(mlp(), x[:1000], y[:1000])
    width = Bits(*bits, accumulator=accumulator)
    before = compile_network(network, x[:1000], width).program
    after = compile_network(network, x[:1000], width, epochs=4).program
    check_program(after)
    with torch.no_grad():
        plain = (network(torch.from_numpy(x[1000:])).argmax(1).numpy() == y[1000:]).mean()
    assert right(after, x[1000:], y[1000:]) >= plain - 0.04
    assert right(after, x[1000:], y[1000:]) >= right(before, x[1000:], y[1000:])
    for program in (before, after):
        assert program.accumulator_bits <= accumulator
        wild = np.random.default_rng(0).normal(size=(64, 1, 8, 8)) * 100
        block = program.rounds[0].blocks[0]
        sums = accumulate(block, {program.input.name: read_rows(program, wild)})
        assert -(1 << accumulator - 1) <= sums.min()
        assert sums.max() < 1 << accumulator - 1


def test_training_holds_residual_networks_as_well() -> None:
    from .test_compiling_networks import Residual, settled

    network = settled(
        nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), Residual(4, 4), Residual(4, 6, 2),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
        )
    )  # fmt: skip
    rows = np.random.default_rng(0).normal(size=(64, 2, 6, 6)).astype(np.float32)
    program = compile_network(network, rows, Bits(8, 5, accumulator=14), epochs=2).program
    check_program(program)
    assert program.accumulator_bits <= 14


def test_training_needs_a_width() -> None:
    rows = np.random.default_rng(0).normal(size=(8, 1, 8, 8))
    with pytest.raises(ConfigError, match="no width"):
        compile_network(mlp(), rows, epochs=1)
