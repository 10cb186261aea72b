"""A network of real blocks as a program of integers, its scales chosen on examples.

Post-training: weights of a layer have one scale, so that a client needs not know which channel it
holds, and it is chosen together with the scale of what the layer makes, so that the client divides
by a power of two (Jacob et al., 2018, section 2, with the multiplier folded into the weights). Of
the scales that may be, that is taken whose squared error is least: of rounding the weights, by the
variance of what they are multiplied with, and of rounding and clipping what is made. Biases take
up the mean error of each channel on the examples (Nagel et al., 2019, section 4.2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor, log2
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.infer.private.compiling.held_sums import Part, held
from hansa.infer.private.compiling.real_net import (
    Clip,
    Convolution,
    RealBlock,
    RealNet,
    RealTerm,
    RealValue,
)
from hansa.infer.private.compiling.rounds import in_rounds
from hansa.infer.private.compiling.step_tables import divided, needs_table, steps_of
from hansa.infer.private.program import Activation, Block, Program, Term, Value, bounds

if TYPE_CHECKING:
    from torch import Tensor

CLIPPED = tuple(1.15 * 0.94**k for k in range(18))
"""Where values are clipped, by their largest: the candidates."""
_SAMPLE = 1 << 16
EXACT = 1 << 51
"""Accumulators stay below this, where float64 is exact."""
_TRIES = 12
_PASSES = 4
"""Weights that are held move the bias that makes up for them, which takes room from the weights."""
_COARSEST = 3
"""Weights none of which is larger are no network any more."""


@dataclass(frozen=True)
class Bits:
    """Widths of integers.

    Attributes:
        weights: signed, 2 to 12.
        activations: of values between layers, 2 to 12.
        input: of the input; None: as activations.
        accumulator: the most bits of a sum; weights are coarser where they have to be. None: as
            many as it takes.
    """

    weights: int = 8
    activations: int = 7
    input: int | None = None
    accumulator: int | None = None

    def __post_init__(self) -> None:
        for name in ("weights", "activations", "input"):
            value = getattr(self, name)
            if value is not None and not 2 <= value <= 12:
                raise ConfigError(name, value, "is no width in bits", "2 to 12; 8 and 7 are usual")
        if self.accumulator is not None and not 8 <= self.accumulator <= 52:
            problem = "is no width of a sum in bits"
            raise ConfigError("accumulator", self.accumulator, problem, "8 to 52")


@dataclass
class Scaled:
    """A value with its scale, on the examples.

    Attributes:
        real: as the network has it, float32 [n, C, H, W].
        made: as the integers make it.
    """

    value: Value
    real: Tensor
    made: Tensor
    variance: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.variance = self.made.double().var((0, 2, 3), correction=0)


def quantize(
    net: RealNet,
    rows: np.ndarray,
    bits: Bits,
    input_shape: tuple[int, ...],
    classes: tuple[str, ...] = (),
    facts: dict[str, object] | None = None,
) -> Program:
    """The program of a network.

    Args:
        rows: [n, *input_shape] of examples, as the network reads them.

    Raises:
        ConfigError: a function gives no number somewhere, or accumulators leave 52 bits.
    """
    shape = net.input_shape
    real = torch.from_numpy(np.ascontiguousarray(rows, np.float64)).reshape(len(rows), *shape)
    scaled, offset = _input(net, real, bits)
    known: dict[str, Scaled] = {net.input_name: scaled}
    blocks: dict[str, Block] = {}
    activations: dict[str, Activation] = {}
    readers = _last_readers(net)
    with torch.no_grad():
        for name, block in net.blocks.items():
            values = [value for value in net.values.values() if value.block == name]
            made, sums, real_sums = _block(block, values, known, offset, bits, net.input_name)
            blocks[name] = made
            for value in values:
                known[value.name], activations[value.name] = _value(
                    value, block, made, sums, real_sums, bits
                )
            for gone in readers.get(name, ()):
                known[gone].real = known[gone].made = torch.empty(0)
    return Program(
        {name: one.value for name, one in known.items()},
        in_rounds(blocks, activations, net.input_name, net.logits),
        input_shape,
        offset,
        classes,
        dict(facts or {}) | {"weight_bits": bits.weights, "activation_bits": bits.activations},
    )


def _last_readers(net: RealNet) -> dict[str, list[str]]:
    """Values by the last block that reads them."""
    last: dict[str, str] = {}
    for name, block in net.blocks.items():
        for term in block.terms:
            last[term.value] = name
    out: dict[str, list[str]] = {}
    for value, block_name in last.items():
        out.setdefault(block_name, []).append(value)
    return out


# -------------------------------------------------------------------------------------- the input


def _input(net: RealNet, real: Tensor, bits: Bits) -> tuple[Scaled, np.ndarray]:
    """The input's scale, and its offset: 0 where a layer pads it with zeros."""
    width = bits.input or bits.activations
    reads = [t.layer for b in net.blocks.values() for t in b.terms if t.value == net.input_name]
    offset = torch.zeros(len(real[0]), dtype=torch.float64)
    if not any(any(layer.padding) for layer in reads):
        low, high = real.amin((0, 2, 3)), real.amax((0, 2, 3))
        whole = float(high.max().clamp_min(0) - low.min().clamp_max(0))
        if whole > 1.5 * float((high - low).max()):
            offset = (low + high) / 2
    moved = real - offset.view(1, -1, 1, 1)
    scale, low_, high_ = best_scale(moved, width)
    whole_numbers = (moved / scale).round_().clamp_(low_, high_)
    value = Value(net.input_name, net.input_shape, low_, high_, scale)
    made = (whole_numbers * scale).float()
    return Scaled(value, moved.float(), made), offset.numpy()


def best_scale(numbers: Tensor, width: int, unsigned: bool = False) -> tuple[float, int, int]:
    """(scale, least, largest integer) with the least squared error on a sample."""
    sample = _sampled(numbers)
    errors = [
        (float(((sample / s).round().clamp(a, b) * s - sample).square().mean()), (s, a, b))
        for s, a, b in (range_of(sample, width, share, unsigned) for share in CLIPPED)
    ]
    return min(errors, key=lambda one: one[0])[1]


def range_of(
    sample: Tensor, width: int, share: float, unsigned: bool = False
) -> tuple[float, int, int]:
    """(scale, least, largest integer) that reach ``share`` of the numbers' range."""
    low, high = min(float(sample.min()), 0.0), max(float(sample.max()), 0.0)
    low = 0.0 if unsigned else low
    levels = (1 << width) - 1
    scale = share * (high - low) / levels or 1.0
    least = max(round(low / scale), -levels) if low < 0 else 0
    if least < 0:  # both ends lose alike
        least = round(low * share / scale)
    return scale, least, least + levels


def _sampled(numbers: Tensor) -> Tensor:
    flat = numbers.reshape(-1).double()
    if len(flat) <= _SAMPLE:
        return flat
    step = len(flat) // _SAMPLE | 1  # odd: no side of an image is a multiple
    return torch.cat([flat[::step], torch.stack([flat.min(), flat.max()])])


# ---------------------------------------------------------------------------------------- a block


def _block(
    block: RealBlock,
    values: list[RealValue],
    known: dict[str, Scaled],
    offset: np.ndarray,
    bits: Bits,
    input_name: str,
) -> tuple[Block, Tensor, Tensor]:
    """(the block in integers, its accumulators times their scale, its real sums)."""
    real = block({t.value: known[t.value].real for t in block.terms})
    if offset.any():
        moved = torch.from_numpy(offset)
        for term in block.terms:
            if term.value == input_name:
                part = term.layer.dense().sum((2, 3)) @ moved
                real += part.to(real.dtype).view(1, -1, 1, 1)
    plain = [v for v in values if not needs_table(v)]
    if plain:
        scale = _joint_scale(block, plain[0], plain[0](real), known, bits)
    else:
        scale = _finest(block, known, bits)
    made, sums = _at_scale(block, known, real, scale, bits)
    if bits.accumulator is None or fits(made, bits.accumulator):
        return made, sums, real
    return *_held_block(block, known, real, scale, bits, 2.0 if plain else 1.25), real


def fits(block: Block, accumulator: int) -> bool:
    """Whether every accumulator of a block is an integer of so many bits."""
    most = 1 << (accumulator - 1)
    return -most <= block.low and block.high < most


def _held_block(
    block: RealBlock,
    known: dict[str, Scaled],
    real: Tensor,
    scale: float,
    bits: Bits,
    by: float,
) -> tuple[Block, Tensor]:
    """The block with sums that fit, at the scale where that costs least.

    A coarser scale rounds more and cuts less; each is tried (by twice, where the client divides by
    a power of two).
    """
    assert bits.accumulator is not None
    best: tuple[float, Block, Tensor] | None = None
    for _ in range(_TRIES):
        room = (block.bias / scale).abs().round()
        for _ in range(_PASSES):
            made, sums = _at_scale(block, known, real, scale, bits, room)
            if fits(made, bits.accumulator):
                break
            room = torch.maximum(room, torch.from_numpy(made.bias).double().abs() + 1)
        largest = max(int(np.abs(term.weight).max()) for term in made.terms)
        if fits(made, bits.accumulator) and largest >= _COARSEST:
            error = float((sums - real).square().mean())
            if best is None or error < best[0]:
                best = error, made, sums
        scale *= by
        if largest < _COARSEST:
            break
    if best is None:
        problem = f"cannot be held in accumulators of {bits.accumulator} bits"
        fix = "more bits, or training for so many (--a2q)"
        raise ConfigError(f"network.{block.name}", made.high, problem, fix)
    return best[1], best[2]


def _at_scale(
    block: RealBlock,
    known: dict[str, Scaled],
    real: Tensor,
    scale: float,
    bits: Bits,
    room: Tensor | None = None,
) -> tuple[Block, Tensor]:
    """(the block in integers at a scale, its accumulators times their scale).

    Args:
        room: of the accumulators beside the weights', where they are held to a width.
    """
    weights = [_rounded(t, known, scale, bits) for t in block.terms]
    if room is not None:
        weights = held_weights(block, known, scale, bits, room) or weights
    made: Tensor | None = None
    for term, weight in zip(block.terms, weights, strict=True):
        numbers = known[term.value]
        layer = _like(term.layer, weight)
        part = layer((numbers.made / numbers.value.scale).round())
        made = part if made is None else made.add_(part)
    assert made is not None
    made = made.mul_(scale)
    mean = (real - made).double().mean((0, 2, 3))
    bias = (mean / scale).round()
    if not float(bias.abs().max()) < EXACT:
        problem = f"adds a bias {float(bias.abs().max()):.1g} times as large as a step of its sums"
        fix = "weights and biases of like sizes: train it on, or scale its input"
        raise ConfigError(f"network.{block.name}", None, problem, fix)
    made += (bias * scale).to(made.dtype).view(1, -1, 1, 1)
    terms = tuple(
        Term(t.value, w.to(torch.int64).numpy(), t.layer.stride, t.layer.padding, t.layer.dilation,
             t.layer.groups)
        for t, w in zip(block.terms, weights, strict=True)
    )  # fmt: skip
    whole_bias = bias.to(torch.int64).numpy()
    low, high = bounds(terms, whole_bias, {name: one.value for name, one in known.items()})
    if max(-low, high) >= EXACT:
        problem = "has accumulators of more than 52 bits"
        raise ConfigError(f"network.{block.name}", high, problem, "fewer bits")
    return Block(block.name, terms, whole_bias, block.shape, low, high, scale), made


def held_weights(
    block: RealBlock, known: dict[str, Scaled], scale: float, bits: Bits, room: Tensor
) -> list[Tensor] | None:
    """A block's weights as integers with which sums fit, beside a bias as large as ``room``."""
    assert bits.accumulator is not None
    most = (1 << (bits.weights - 1)) - 1
    parts = []
    for term in block.terms:
        value = known[term.value].value
        real = term.layer.weight * (value.scale / scale)
        real = real if term.layer.exact else real.clamp(-most, most)
        parts.append(Part(real, min(value.low, 0), max(value.high, 0), term.layer.exact))
    return held(parts, room, bits.accumulator)


def _like(layer: Convolution, weight: Tensor) -> Convolution:
    return Convolution(weight, layer.stride, layer.padding, layer.dilation, layer.groups)


def _finest(block: RealBlock, known: dict[str, Scaled], bits: Bits) -> float:
    """The least scale of an accumulator at which the weights fit their bits."""
    learned = [t for t in block.terms if not t.layer.exact] or list(block.terms)
    largest = max(float(t.layer.weight.abs().max()) * known[t.value].value.scale for t in learned)
    return (largest or 1.0) / ((1 << (bits.weights - 1)) - 1)


def _rounded(term: RealTerm, known: dict[str, Scaled], scale: float, bits: Bits) -> Tensor:
    """A term's weights as integers, in float64."""
    whole = (term.layer.weight * (known[term.value].value.scale / scale)).round()
    if term.layer.exact:
        return whole
    most = (1 << (bits.weights - 1)) - 1
    return whole.clamp(-most, most)


def _joint_scale(
    block: RealBlock, value: RealValue, real: Tensor, known: dict[str, Scaled], bits: Bits
) -> float:
    """The accumulator's scale that goes with the best scale of the value by a power of two."""
    finest, sample = _finest(block, known, bits), _sampled(real)
    unsigned, by = is_unsigned(value), divided(value)
    best = (float("inf"), finest)
    for share in CLIPPED:
        wanted, low, high = range_of(sample, bits.activations, share, unsigned)
        clipped = ((sample / wanted).round().clamp(low, high) * wanted - sample).square().mean()
        # The value's scale is the accumulator's times 2^shift, over what sums are divided by.
        shift = max(floor(log2(wanted * by / finest * (1 + 1e-9))), 0)
        scale = wanted * by / (1 << shift)
        error = float(clipped) + _weight_error(block, known, scale, bits) / (2 * by * by)
        best = min(best, (error, scale))
    return best[1]


def _weight_error(block: RealBlock, known: dict[str, Scaled], scale: float, bits: Bits) -> float:
    """The mean squared error of a sum whose weights are rounded, if inputs vary alone."""
    total = 0.0
    for term in block.terms:
        value = known[term.value]
        off = _rounded(term, known, scale, bits) * (scale / value.value.scale) - term.layer.weight
        squares = off.square().sum((2, 3))
        each = len(squares) // term.layer.groups
        groups = value.variance.view(term.layer.groups, -1).repeat_interleave(each, 0)
        total += float((squares * groups).sum(1).mean())
    return total


def is_unsigned(value: RealValue) -> bool:
    """Whether its last stages leave nothing below 0."""
    clips = [stage for stage in value.stages if isinstance(stage, Clip)]
    return bool(clips) and clips[-1].low >= 0


def _value(
    value: RealValue, block: RealBlock, made: Block, sums: Tensor, real_sums: Tensor, bits: Bits
) -> tuple[Scaled, Activation]:
    """A value of a block, on the examples, and the steps that make it."""
    real, by = value(real_sums), divided(value)
    width, shift = bits.activations, 0
    if needs_table(value):
        scale, low, high = best_scale(real, width, bool(real.min() >= 0))
    else:
        sample, unsigned = _sampled(real), is_unsigned(value)
        options = []
        for share in CLIPPED:
            wanted, low, high = range_of(sample, width, share, unsigned)
            shift = max(round(log2(wanted * by / made.scale)), 0)
            scale = made.scale * (1 << shift) / by
            low = round(low * wanted / scale) if low < 0 else 0
            low, high = low, low + (1 << width) - 1
            error = ((sample / scale).round().clamp(low, high) * scale - sample).square().mean()
            options.append((float(error), shift, scale, low, high))
        _, shift, scale, low, high = min(options)
        low, high = _within(value, scale, low, high)
    steps = steps_of(value, block.name, made.scale, (made.low, made.high), scale, low, high, shift)
    approximate = (value(sums) / scale).round().clamp(low, high) * scale
    one = Value(value.name, value.shape, low, high, scale)
    return Scaled(one, real, approximate), Activation(made.name, steps, value.name)


def _within(value: RealValue, scale: float, low: int, high: int) -> tuple[int, int]:
    """Not beyond where the network clips."""
    last = value.stages[-1] if value.stages else None
    if isinstance(last, Clip):
        if last.high < float("inf"):
            high = min(high, round(last.high * value.gain / scale))
        if last.low > -float("inf"):
            low = max(low, round(last.low * value.gain / scale))
    return low, high
