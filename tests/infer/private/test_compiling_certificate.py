"""What a certificate promises of a program, and the schemes that are refused."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.infer.private.made_programs import lenet, mlp, resnet
from torch import nn

from hansa.base.errors import ConfigError
from hansa.infer.private.compiling.certificate import (
    SCHEME,
    certify,
    choose_scheme,
    hidden_bits,
    scheme_of,
)
from hansa.infer.private.compiling.compiler import compile_network
from hansa.infer.private.compiling.quantize import Bits
from hansa.infer.private.program import Program
from hansa.infer.private.rlwe.profiles import profile
from hansa.infer.private.sessions.model import ServerModel
from hansa.infer.private.sessions.scheme import Scheme


@pytest.mark.parametrize("make", [mlp, lenet, lambda: resnet(1)])
def test_a_scheme_is_flooded_to_the_ceiling_and_no_further(make: object) -> None:
    assert callable(make)
    program = make()
    scheme = choose_scheme(program)
    made = certify(program, scheme)
    assert made.failure_log2 <= -40
    assert hidden_bits(program, scheme) >= 40
    assert made.plain_bits == scheme.plain_bits >= program.accumulator_bits
    with pytest.raises(ConfigError, match="leaves no room"):
        certify(program, Scheme(**scheme.plain() | {"flooding_bits": scheme.flooding_bits + 1}))
    ServerModel(program, scheme)  # takes what is certified


def test_accumulators_that_overflow_the_plaintext_are_refused_by_name() -> None:
    program = mlp()
    scheme = choose_scheme(program)
    few = Scheme(**scheme.plain() | {"plain_bits": program.accumulator_bits - 1})
    with pytest.raises(ConfigError, match="accumulates numbers of") as caught:
        certify(program, few)
    assert caught.value.field == "scheme.plain_bits"
    assert any(b.name in caught.value.problem for r in program.rounds for b in r.blocks)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000))
def test_no_error_that_bounded_draws_can_make_reaches_the_limit(seed: int) -> None:
    """Residual, the encryption of zero, flooding and rounding are below half of a plaintext."""
    from hansa.infer.private.rlwe import noise

    program = mlp()
    name = ("n4096", "n8192")[seed % 2]
    with contextlib.suppress(ConfigError):  # n2048 is small
        choose_scheme(program, profile_name="n2048")
        name = "n2048"
    scheme = choose_scheme(program, profile_name=name)
    made, ring = certify(program, scheme), profile(name)
    norm = max(one.norm for one in made.blocks)
    total = noise.residual_bound(ring, norm) + noise.zero_bound(ring) + (1 << scheme.flooding_bits)
    assert total < ring.q >> (scheme.plain_bits + 1)


def test_a_program_says_how_it_is_asked() -> None:
    program = mlp()
    assert scheme_of(program) == choose_scheme(program)
    told = choose_scheme(program, profile_name="n8192")
    facts = dict(program.facts) | {SCHEME: told.plain()}
    other = Program(program.values, program.rounds, program.input_shape, program.offset, (), facts)
    assert scheme_of(other) == told
    facts[SCHEME] = {"colour": "blue"}
    with pytest.raises(ConfigError, match="no part of a scheme"):
        scheme_of(other)


def test_a_budget_cannot_protect_a_convolution() -> None:
    with pytest.raises(ConfigError, match="equations") as caught:
        choose_scheme(lenet(), "budget")
    assert "shares" in caught.value.fix
    assert choose_scheme(lenet(), "budget", insist=True).mode == "budget"
    assert choose_scheme(mlp(), "budget").mode == "budget"


def test_shares_tell_the_class_alone_and_need_no_flooding() -> None:
    layers = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    rows = np.random.default_rng(0).normal(size=(32, 16))
    program = compile_network(layers, rows, Bits(6, 5)).program
    scheme = choose_scheme(program, "shares")
    made = certify(program, scheme)
    assert (scheme.reveals, scheme.hides, scheme.flooding_bits) == ("class", "none", 0)
    assert made.distance_log2 is None
    assert made.failure_log2 <= -40
    few = Scheme(**scheme.plain() | {"plain_bits": program.accumulator_bits - 1})
    with pytest.raises(ConfigError, match="take"):
        certify(program, few)


def test_a_certificate_lists_every_block() -> None:
    program = resnet(1)
    made = certify(program, choose_scheme(program))
    blocks = [b for r in program.rounds for b in r.blocks]
    assert [one.name for one in made.blocks] == [b.name for b in blocks]
    assert max(one.bits for one in made.blocks) == program.accumulator_bits
    for one, block in zip(made.blocks, blocks, strict=True):
        assert -(1 << (one.bits - 1)) <= block.low
        assert block.high < 1 << (one.bits - 1)
        sizes = sum(np.abs(t.weight).sum((1, 2, 3)) for t in block.terms)
        assert one.norm >= sizes.max()
